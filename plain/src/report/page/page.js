"use strict";
// A column is sorted by its numbers where it has them, else by its text; again, the other way round.
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const first = head.classList.contains("number") ? "descending" : "ascending";
    const other = { ascending: "descending", descending: "ascending" };
    const order = other[head.getAttribute("aria-sort")] || first;
    for (const column of head.parentElement.children) {
      column.setAttribute("aria-sort", column === head ? order : "none");
    }
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (typeof x === "number" && typeof y === "number") return x - y;
      // What has no number comes last in both orders.
      if (typeof x === "number" || typeof y === "number") {
        return (typeof x === "number" ? -1 : 1) * (order === "ascending" ? 1 : -1);
      }
      return x.localeCompare(y, undefined, { numeric: true });
    };
    const sign = order === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
  });
}
