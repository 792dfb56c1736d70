(() => {
  "use strict";
  const bar = document.querySelector(".bar"), find = bar.querySelector("[type=search]");
  const told = bar.querySelector("output"), rows = [...document.getElementById("jobs").tBodies[0].rows];
  const choose = (value) => { bar.querySelector(`[value="${value}"]`).checked = true; };
  let texts;
  const show = () => {
    const wanted = bar.querySelector(":checked").value, text = find.value.trim().toLowerCase();
    if (text && !texts) texts = rows.map((row) => row.cells[0].textContent.toLowerCase());
    let count = 0;
    rows.forEach((row, at) => {
      const fits = (wanted === "all" || row.classList.contains(wanted)) && (!text || texts[at].includes(text));
      if (row.hidden === fits) row.hidden = !fits;
      count += fits;
    });
    told.value = `${count} of ${rows.length} jobs`;
  };
  const reach = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (!row || !rows.includes(row)) return;
    if (row.hidden) { find.value = ""; choose("all"); show(); }
    row.querySelector("details")?.setAttribute("open", "");
    row.scrollIntoView();
  };
  bar.hidden = false;
  if (rows.some((row) => row.classList.contains("note"))) choose("note");
  show();
  reach();
  addEventListener("hashchange", reach);
  bar.addEventListener("input", show);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) { event.preventDefault(); find.focus(); }
    if (event.key === "Escape" && document.activeElement === find) { find.value = ""; show(); }
  });
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = rows.filter((row) => !row.hidden).flatMap((row) => [...row.querySelectorAll("details:not([open])")]);
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
