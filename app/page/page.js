"use strict";

const IMAGE_SIDE = 28;
const PEN_WIDTH = 36; // of the 560 pixels of the canvas
const BLUE = "#0072b2";

const element = (id) => document.getElementById(id);
const canvas = element("drawing");
const context = canvas.getContext("2d");
const wholeCanvas = [0, 0, canvas.width, canvas.height];
const maxBytes = Number(element("max-bytes").value);
const invitation = element("message").innerHTML;

const bars = Array.from({ length: 10 }, (_, digit) => {
  const bar = element("bar").content.cloneNode(true).firstChild;
  bar.querySelector("b").textContent = digit;
  element("bars").append(bar);
  return bar;
});

// ── Requests: one at a time. While one is running, only the newest picture waits. ──

let isRunning = false;
let waitingPicture = null;

async function predict(picture) {
  waitingPicture = picture;
  if (isRunning) return;
  isRunning = true;
  while (waitingPicture) {
    const current = waitingPicture;
    waitingPicture = null;
    const answer = await request(current);
    if (!waitingPicture && !isOutdated(current)) show(answer);
  }
  isRunning = false;
}

async function request(picture) {
  try {
    const response = await fetch("digit", { method: "POST", body: picture });
    if (response.status === 413) return { error: tooLarge() };
    if (response.status === 503) return { error: "The server is busy; try again in a few seconds" };
    return await response.json();
  } catch {
    return { error: "The server does not answer; is make app still running?" };
  }
}

const tooLarge = () => `That file is larger than ${maxBytes / 1e6} MB; choose a smaller one.`;

// ── Results ──

function show({ error, rows = [] }) {
  const digits = rows.flatMap((row) => row.digits);
  element("bars").hidden = Boolean(error);
  drawNetworkInput(rows);
  drawBoxes(digits);
  if (error) {
    showMessage(toSentence(error), "error");
    return;
  }
  const leastSure = digits.reduce((a, b) => (b.probability < a.probability ? b : a));
  showBars(leastSure);
  const lines = rows.map(({ text }, i) => (rows.length > 1 ? `Row ${i + 1}: ${text}` : text));
  if (digits.length > 1) lines.push(`The bars are of the least sure digit: ${leastSure.digit}`);
  showMessage(lines.join("\n"), rows.every((row) => row.sure) ? "" : "unsure");
}

function showBars({ digit: best, probabilities }) {
  bars.forEach((bar, digit) => {
    bar.className = digit === best ? "best" : "";
    bar.querySelector("i").style.width = `${100 * probabilities[digit]}%`;
    bar.querySelector("span").textContent = `${(100 * probabilities[digit]).toFixed(1)}%`;
  });
}

function showMessage(text, className) {
  element("message").textContent = text;
  element("message").className = className;
}

const toSentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`.replace("..", ".");

function drawNetworkInput(rows) {
  const input = element("network-input");
  input.parentElement.hidden = rows.length === 0;
  input.width = IMAGE_SIDE * Math.max(1, ...rows.map(({ digits }) => digits.length));
  input.height = IMAGE_SIDE * Math.max(1, rows.length);
  rows.forEach(({ digits }, row) => digits.forEach(({ image }, column) => {
    const pixels = new ImageData(IMAGE_SIDE, IMAGE_SIDE);
    image.forEach((level, pixel) => pixels.data.set([level, level, level, 255], 4 * pixel));
    input.getContext("2d").putImageData(pixels, IMAGE_SIDE * column, IMAGE_SIDE * row);
  }));
}

// Left, top, width and height of the current picture on the canvas. Boxes are fractions of it.
let pictureArea = wholeCanvas;

function drawBoxes(digits) {
  const boxes = element("boxes").getContext("2d");
  boxes.clearRect(...wholeCanvas);
  if (digits.length < 2) return;
  const [x, y, width, height] = pictureArea;
  Object.assign(boxes, { lineWidth: 3, strokeStyle: BLUE });
  for (const { box: [left, top, right, bottom] } of digits) {
    boxes.strokeRect(x + left * width, y + top * height, (right - left) * width, (bottom - top) * height);
  }
}

// ── Drawing ──

// The stroke that is being drawn: the pointer that began it, and its last point. Other pointers,
// such as a second finger or the palm, draw nothing until it ends.
let stroke = null;
let version = 0; // increases when the canvas is cleared
let hasOpenedPicture = false; // the canvas shows a file, not a drawing

const versions = new WeakMap(); // version of the canvas that a picture shows
const isOutdated = (picture) => versions.get(picture) !== version;

function clear() {
  version += 1;
  context.fillStyle = "#fff";
  context.fillRect(...wholeCanvas);
  pictureArea = wholeCanvas;
  hasOpenedPicture = false;
  element("bars").hidden = true;
  drawNetworkInput([]);
  drawBoxes([]);
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

function draw(event) {
  if (event.pointerId !== stroke?.pointer) return;
  const [x, y] = pointOf(event);
  Object.assign(context, { lineWidth: PEN_WIDTH, lineCap: "round", strokeStyle: "#111" });
  context.beginPath();
  context.moveTo(...stroke.point);
  context.lineTo(x + 0.01, y); // a line of length 0 would draw no dot
  context.stroke();
  stroke.point = [x, y];
  const drawnVersion = version;
  canvas.toBlob((picture) => {
    versions.set(picture, drawnVersion);
    if (!isOutdated(picture)) predict(picture);
  });
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button || stroke) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  if (hasOpenedPicture) clear();
  stroke = { pointer: event.pointerId, point: pointOf(event) };
  draw(event);
});
canvas.addEventListener("pointermove", draw);
canvas.addEventListener("lostpointercapture", (event) => {
  if (event.pointerId === stroke?.pointer) stroke = null;
});

element("clear").addEventListener("click", () => {
  clear();
  element("message").innerHTML = invitation;
  element("message").className = "";
});

// ── Picture files ──

async function open(file) {
  if (!file) return;
  clear();
  hasOpenedPicture = true;
  if (file.size > maxBytes) {
    show({ error: tooLarge() });
    return;
  }
  const picture = new Blob([file]);
  versions.set(picture, version);
  try {
    const bitmap = await createImageBitmap(file);
    if (isOutdated(picture)) return;
    const scale = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    pictureArea = [(canvas.width - width) / 2, (canvas.height - height) / 2, width, height];
    context.drawImage(bitmap, ...pictureArea);
  } catch {
    // The browser cannot show this format, but Pillow may read it on the server.
  }
  if (!isOutdated(picture)) predict(picture);
}

element("file").addEventListener("change", (event) => {
  open(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
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
