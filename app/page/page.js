"use strict";

const element = (id) => document.getElementById(id);
const paper = element("paper");
const pen = paper.getContext("2d");
const maxBytes = Number(element("max-bytes").value);

const bars = Array.from({ length: 10 }, (_, digit) => {
  const bar = element("bar").content.cloneNode(true).firstChild;
  bar.querySelector("b").textContent = digit;
  element("bars").append(bar);
  return bar;
});

// ── Asking: one question at a time, and then only the newest that has come up meanwhile. ──

const invitation = element("message").innerHTML;
let asking = false;
let waiting = null;

async function ask(picture) {
  waiting = picture;
  if (asking) return;
  asking = true;
  while (waiting) {
    const asked = waiting;
    waiting = null;
    const answer = await answerTo(asked);
    if (!waiting && !cleared(asked)) show(answer);
  }
  asking = false;
}

async function answerTo(picture) {
  try {
    const response = await fetch("digit", { method: "POST", body: picture });
    if (response.status === 413) return { error: tooLarge() };
    return await response.json();
  } catch {
    return { error: "The server does not answer; is make app still running?" };
  }
}

const tooLarge = () => `That file is larger than ${maxBytes / 1e6} MB; choose a smaller one.`;

// ── Showing ──

function show({ error, digits }) {
  element("bars").hidden = Boolean(error);
  drawSeen(error ? [] : digits);
  drawBoxes(error ? [] : digits);
  if (error) return say(sentence(error), true);
  // The bars are those of the digit that is least sure.
  const least = digits.reduce((a, b) => (b.probability < a.probability ? b : a));
  bars.forEach((bar, digit) => {
    bar.className = digit === least.digit ? "first" : "";
    bar.querySelector("i").style.width = `${100 * least.probabilities[digit]}%`;
    bar.querySelector("span").textContent = percent(least.probabilities[digit]);
  });
  say(digits.length === 1 ? one(least) : several(digits, least));
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function candidates({ probabilities }) {
  const ranked = probabilities.map((share, digit) => [share, digit]).sort((a, b) => b[0] - a[0]);
  return ranked.slice(0, 2).map(([share, digit]) => `${digit} (${percent(share)})`).join(" or ");
}

function one(digit) {
  if (!digit.sure) return `Not sure: a ${candidates(digit)}.`;
  return `It is a ${digit.digit}, with a probability of ${percent(digit.probability)}.`;
}

function several(digits, least) {
  const number = digits.map(({ digit }) => digit).join("");
  const doubts = digits.flatMap((digit, i) =>
    digit.sure ? [] : [`Not sure of digit ${i + 1}: a ${candidates(digit)}.`]);
  const place = `The bars are of digit ${digits.indexOf(least) + 1}, the least sure.`;
  return [`It is ${number}.`, ...doubts, place].join(" ");
}

function say(text, problem = false) {
  element("message").textContent = text;
  element("message").className = problem ? "problem" : "";
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`.replace("..", ".");

function drawSeen(digits) {
  const canvas = element("seen");
  canvas.parentElement.hidden = digits.length === 0;
  canvas.width = 28 * Math.max(1, digits.length);
  digits.forEach(({ image }, place) => {
    const data = new ImageData(28, 28);
    image.forEach((level, i) => data.data.set([level, level, level, 255], 4 * i));
    canvas.getContext("2d").putImageData(data, 28 * place, 0);
  });
}

// The part of the paper that the picture which was asked about covers.
let covered = [0, 0, paper.width, paper.height];

function drawBoxes(digits) {
  const lines = element("boxes").getContext("2d");
  lines.clearRect(0, 0, paper.width, paper.height);
  if (digits.length < 2) return;
  const [x, y, width, height] = covered;
  Object.assign(lines, { lineWidth: 3, strokeStyle: "#0072b2" });
  for (const { box: [left, top, right, bottom] } of digits) {
    lines.strokeRect(x + left * width, y + top * height, (right - left) * width, (bottom - top) * height);
  }
}

// ── Drawing ──

let stroke = null; // the last point of the line that is being drawn
let drawing = 0; // counts what has been put on the paper and cleared

const pictures = new WeakMap(); // picture → the drawing it belongs to
const cleared = (picture) => pictures.get(picture) !== drawing;

function clear() {
  drawing += 1;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  covered = [0, 0, paper.width, paper.height];
  element("bars").hidden = true;
  drawSeen([]);
  drawBoxes([]);
}

function pointOf(event) {
  const box = paper.getBoundingClientRect();
  const scale = paper.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

function draw(event) {
  if (!stroke) return;
  const next = pointOf(event);
  Object.assign(pen, { lineWidth: 36, lineCap: "round", strokeStyle: "#111" });
  pen.beginPath();
  pen.moveTo(...stroke);
  pen.lineTo(next[0] + 0.01, next[1]); // a line of no length would leave no dot
  pen.stroke();
  stroke = next;
  const now = drawing;
  paper.toBlob((picture) => {
    pictures.set(picture, now);
    if (!cleared(picture)) ask(picture);
  });
}

let opened = false; // whether what lies on the paper is a picture, not a drawing

paper.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  if (opened) clear();
  opened = false;
  stroke = pointOf(event);
  draw(event);
});
paper.addEventListener("pointermove", draw);
for (const end of ["pointerup", "pointercancel"]) {
  paper.addEventListener(end, () => { stroke = null; });
}

element("clear").addEventListener("click", () => {
  clear();
  opened = false;
  element("message").innerHTML = invitation;
  element("message").className = "";
});

// ── Pictures ──

async function open(file) {
  if (!file) return;
  clear();
  opened = true;
  if (file.size > maxBytes) return show({ error: tooLarge() });
  const picture = new Blob([file]);
  pictures.set(picture, drawing);
  const now = drawing;
  try {
    const bitmap = await createImageBitmap(file);
    if (now !== drawing) return;
    const scale = Math.min(paper.width / bitmap.width, paper.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    covered = [(paper.width - width) / 2, (paper.height - height) / 2, width, height];
    pen.drawImage(bitmap, ...covered);
  } catch {
    // A browser shows fewer formats than Pillow reads; the answer comes all the same.
  }
  if (now === drawing) ask(picture);
}

element("file").addEventListener("change", (event) => {
  open(event.target.files[0]);
  event.target.value = ""; // so that the same file can be opened again
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  open(event.dataTransfer.files[0]);
});

clear();
