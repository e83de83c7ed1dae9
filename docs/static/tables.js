// Tables of more than a few rows: sorted by a click on a column's head, filtered by words. Nothing is fetched.
"use strict";

(() => {
  const FEW = 7, LONG = 60;

  // The first number of a cell ("10.20 > 2.07", "0.21 [0.20, 0.22]", "1,452"); NaN where the cell is no number.
  const number = (text) => {
    const found = text.trim().match(/^[<>~+]?\s*(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)/i);
    return found ? parseFloat(found[1].replace(/,/g, "")) : NaN;
  };

  const compare = (a, b) => {
    const x = number(a), y = number(b);
    if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b);
    if (Number.isNaN(x)) return 1;
    if (Number.isNaN(y)) return -1;
    return x - y;
  };

  const sortable = (table, body, rows) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "rt-sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = (row) => (row.cells[column] ? row.cells[column].textContent : "");
        const sorted = rows.slice().sort((a, b) => compare(text(a), text(b)));
        // What is no number stays last either way.
        const last = sorted.filter((row) => !text(row).trim() || text(row).trim() === "-");
        const first = sorted.filter((row) => !last.includes(row));
        body.append(...(down ? first.reverse() : first), ...last);
      });
    });
  };

  const filterable = (table, rows) => {
    const box = document.createElement("input");
    const count = document.createElement("span");
    const line = document.createElement("p");
    box.type = "search";
    box.placeholder = "Filter rows";
    box.setAttribute("aria-label", "Filter the rows of the table below");
    count.setAttribute("role", "status");
    line.className = "rt-filter";
    line.append(box, count);
    (table.closest(".pst-scrollable-table-container") || table).before(line);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("article table").forEach((table) => {
      table.querySelectorAll("td").forEach((cell) => {
        cell.classList.toggle("rt-long", cell.textContent.length > LONG);
      });
      const body = table.tBodies[0];
      if (!table.tHead || !body || body.rows.length <= FEW) return;
      const rows = Array.from(body.rows);
      sortable(table, body, rows);
      filterable(table, rows);
    });
  });
})();
