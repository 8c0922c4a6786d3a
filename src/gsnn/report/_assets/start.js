// ---- start -----------------------------------------------------------------------------------------------------------
function startPredictions() {
  const readout = byId("predictions-readout");
  if (!readout) return;
  data.predictions.readouts.forEach((name, i) => readout.append(make("option", name, { value: String(i) })));
  readout.addEventListener("change", drawPredictions);
}

function startCopying() {
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = byId(button.dataset.copy);
      let done = "Copied.";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch { // not allowed here: select the text, so that Ctrl-C copies it
        getSelection().selectAllChildren(code);
        done = "Selected; press Ctrl-C to copy.";
      }
      byId("copy-status").textContent = done;
      button.firstChild.textContent = done;
      setTimeout(() => { button.firstChild.textContent = "Copy"; }, 2500);
    });
  }
}

const everyDrawing = [drawNetwork, drawCheck, drawScores, drawAgreement, drawFit, drawPredictions, drawLoss];
startTable();
startAround();
startNetwork();
startCheck();
startPredictions();
startCopying();
// One after the other, so that the table can be used from the start.
function drawNext(left) {
  if (!left.length) { document.documentElement.dataset.ready = "yes"; return; }
  left[0]();
  setTimeout(drawNext, 0, left.slice(1));
}
setTimeout(drawNext, 0, everyDrawing);

for (const query of [narrow, dark]) query.addEventListener("change", () => { for (const each of everyDrawing) each(); });
let resizing = null;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => { if (table.chosen !== null) drawAround(table.chosen); }, 150);
});
