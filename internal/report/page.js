"use strict";
(() => {
  const form = document.getElementById("filters");
  const told = document.getElementById("told");
  const table = document.getElementById("resources");
  let groups; // read once somebody filters, so that the page opens at once

  const read = () => Array.from(table.tBodies, (body) => ({
    body,
    rows: Array.from(body.rows).slice(1).map((row) => ({
      row,
      kind: body.dataset.kind,
      state: row.cells[1].textContent.slice(2),
      severity: row.cells[2].textContent,
      text: row.textContent.toLowerCase(),
    })),
  }));

  const filter = () => {
    groups ??= read();
    const want = form.elements;
    const words = want.text.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const group of groups) {
      let any = false;
      for (const r of group.rows) {
        const hit = (!want.kind.value || r.kind === want.kind.value) &&
          (!want.state.value || r.state === want.state.value) &&
          (!want.severity.value || r.severity === want.severity.value) &&
          words.every((word) => r.text.includes(word));
        r.row.hidden = !hit;
        any ||= hit;
        shown += hit;
      }
      group.body.hidden = !any;
    }
    told.textContent = shown + " shown";
  };

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
})();
