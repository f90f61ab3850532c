// A column's head sorts its table: numbers from the lowest, again from the highest; what is missing comes last.
document.querySelectorAll("table.sortable thead button").forEach(button => button.addEventListener("click", () => {
  const head = button.closest("th");
  const column = head.cellIndex;
  const upwards = head.ariaSort !== "ascending";
  head.parentElement.querySelectorAll("th").forEach(each => { each.ariaSort = null; });
  head.ariaSort = upwards ? "ascending" : "descending";
  const body = head.closest("table").tBodies[0];
  const text = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (!text(a) || !text(b)) return (text(a) ? 0 : 1) - (text(b) ? 0 : 1);
    const order = column ? text(a) - text(b) : text(a).localeCompare(text(b), undefined, { numeric: true });
    return upwards ? order : -order;
  };
  body.append(...[...body.rows].sort(compare));
}));
