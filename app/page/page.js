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

function show({ error, probabilities, image }) {
  element("bars").hidden = Boolean(error);
  drawSeen(image || []);
  if (error) return say(sentence(error), true);
  const first = probabilities.indexOf(Math.max(...probabilities));
  bars.forEach((bar, digit) => {
    bar.className = digit === first ? "first" : "";
    bar.querySelector("i").style.width = `${100 * probabilities[digit]}%`;
    bar.querySelector("span").textContent = `${(100 * probabilities[digit]).toFixed(1)}%`;
  });
  say(`It is a ${first}, with a probability of ${(100 * probabilities[first]).toFixed(1)}%.`);
}

function say(text, problem = false) {
  element("message").textContent = text;
  element("message").className = problem ? "problem" : "";
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`.replace("..", ".");

function drawSeen(pixels) {
  const seen = element("seen").getContext("2d");
  const data = seen.createImageData(28, 28);
  pixels.forEach((level, i) => data.data.set([level, level, level, 255], 4 * i));
  seen.putImageData(data, 0, 0);
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
  element("bars").hidden = true;
  drawSeen([]);
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
  say("Draw a digit from 0 to 9, or drop a picture of one.");
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
  ask(picture);
  try {
    const bitmap = await createImageBitmap(file);
    if (now !== drawing) return;
    const scale = Math.min(paper.width / bitmap.width, paper.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    pen.drawImage(bitmap, (paper.width - width) / 2, (paper.height - height) / 2, width, height);
  } catch {
    // A browser shows fewer formats than Pillow reads; the answer comes all the same.
  }
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
