// Each table with a heading row is sorted by a click, Enter or Space on a heading. Columns of class n are sorted by their
// first number, or by data-v where a cell has it, the largest first; empty cells and dashes stay at the end.
for (const table of document.querySelectorAll("table")) {
  if (!table.tHead || !table.tBodies.length) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    const isNumber = head.classList.contains("n");
    const key = (row) => {
      const cell = row.cells[column];
      if (!cell) return null;
      const text = "v" in cell.dataset ? cell.dataset.v : cell.textContent.trim();
      if (!isNumber) return text || null;
      const found = text.replace("−", "-").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
      return found ? Number(found[0]) : null;
    };
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const up = before === "none" ? !isNumber : before === "descending";
      heads.forEach((other) => { if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([x], [y]) => {
        if (x === null || y === null) return (x === null) - (y === null);
        const order = isNumber ? x - y : x.localeCompare(y, undefined, { numeric: true });
        return up ? order : -order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
// Folded parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
