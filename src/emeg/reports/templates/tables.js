// Tables are sorted by a click, or by Enter, on a heading; numbers by value, a dash last.
for (const table of document.querySelectorAll("table")) {
  const head = table.rows[0];
  for (const [column, cell] of [...head.cells].entries()) {
    cell.tabIndex = 0;
    cell.setAttribute("scope", "col");
    cell.setAttribute("aria-sort", "none");
    const sort = () => {
      const up = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of head.cells) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
        const number = parseFloat(text);
        return Number.isNaN(number) ? (text === "–" || text === "" ? null : text) : number;
      };
      const rows = [...table.rows].slice(1);
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return up ? order : -order;
      });
      rows.forEach((row) => row.parentNode.appendChild(row));
    };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  }
}
