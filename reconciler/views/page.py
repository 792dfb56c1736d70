"""The style and the script of the HTML page; the page allows each by its digest, and nothing else."""

STYLE = """
:root{--ink:#1c2024;--soft:#5b636b;--line:#d9dee3;--page:#fff;--panel:#f5f7f9;--link:#0b5cad;
--ends:#b3261e;--starts:#1a7336;--held:#7a3ea1;--records:#0f6674;--left:#8a5300;--quiet:#5b636b;--mark:#fff3c4}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#a2abb4;--line:#353c43;--page:#14171a;
--panel:#1d2125;--link:#7ab7f5;--ends:#ff8a80;--starts:#6fd08c;--held:#d3a4f5;--records:#6fcbdb;--left:#f0b65c;--quiet:#a2abb4;
--mark:#423a14}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:110rem;padding:1.5rem 2rem 4rem;color:var(--ink);background:var(--page);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{margin:0 0 1rem;font-size:1.6rem;line-height:1.25;text-wrap:balance}
.scope{margin:-.6rem 0 1rem;font-weight:600;color:var(--left)}
.id{font-family:ui-monospace,"SF Mono",Consolas,"Liberation Mono",monospace}
h2{margin:.9rem 0 .3rem .75rem;font-size:.85rem;color:var(--soft)}
a{color:var(--link)}
code,.facts dd,.calls,.fields td{font:.86em/1.5 ui-monospace,"SF Mono",Consolas,"Liberation Mono",monospace}
code{padding:0 .25em;border-radius:3px;background:var(--panel)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:0 0 1.5rem}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
.trouble{margin:0 0 1.5rem;padding:.8rem 1rem;border:1px solid var(--ends);border-left-width:6px;border-radius:6px}
.trouble p{margin:0}
.trouble p:first-child{font-weight:700;color:var(--ends)}
.bar{display:flex;flex-wrap:wrap;gap:.6rem 1.5rem;align-items:center;margin:0 0 1rem}
.bar[hidden]{display:none}
fieldset{display:flex;flex-wrap:wrap;gap:.4rem;margin:0;padding:0;border:0}
legend{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.chip{position:relative}
.chip input{position:absolute;inset:0;opacity:0;margin:0;width:100%;height:100%;cursor:pointer}
.chip span{display:block;padding:.22rem .7rem;border:1px solid var(--line);border-radius:99px;background:var(--panel)}
.chip b{font-variant-numeric:tabular-nums;color:var(--tone)}
.chip input:checked+span{background:var(--ink);border-color:var(--ink);color:var(--page)}
.chip input:checked+span b{color:inherit}
.chip input:focus-visible+span,a:focus-visible,summary:focus-visible,input[type=search]:focus-visible{
outline:3px solid var(--link);outline-offset:2px}
input[type=search]{font:inherit;width:17rem;max-width:100%;padding:.25rem .7rem;color:inherit;background:var(--page);
border:1px solid var(--soft);border-radius:6px}
output{color:var(--soft);font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%}
#jobs,#jobs>thead,#jobs>tbody{display:block}
#jobs>thead{position:sticky;top:0;z-index:1;background:var(--page);border-bottom:2px solid var(--line)}
#jobs>thead>tr,#jobs>tbody>tr{display:grid;column-gap:1rem;padding:.45rem .75rem;border-left:5px solid transparent;
grid-template-columns:minmax(11rem,3fr) 4.6rem 5rem 10rem 5rem 2.6rem minmax(11rem,3fr) minmax(9rem,2.4fr)}
#jobs>tbody>tr{border-bottom:1px solid var(--line);border-left-color:var(--tone);scroll-margin-top:3.2rem;
content-visibility:auto;contain-intrinsic-size:auto 2.3rem}
#jobs>tbody>tr[hidden]{display:none}
#jobs>tbody>tr:target{background:var(--mark)}
#jobs th,#jobs td{padding:0;text-align:left;vertical-align:top;overflow-wrap:anywhere;min-width:0}
#jobs>thead th{font-size:.85rem;color:var(--soft);font-weight:600}
#jobs>tbody>tr>th{font-weight:600}
#jobs>tbody>tr>th>a{color:inherit;text-decoration:none}
#jobs>tbody>tr>th>a:hover{text-decoration:underline}
#jobs small{display:block;color:var(--soft);font-weight:400;font-size:.8em}
.ends{--tone:var(--ends)}.starts{--tone:var(--starts)}.held,.drifted{--tone:var(--held)}.records{--tone:var(--records)}
.left{--tone:var(--left)}.quiet{--tone:var(--quiet)}.w-error{--tone:var(--ends)}
#jobs>tbody>tr.quiet{border-left-color:transparent;color:var(--soft)}
#jobs .verb{font-weight:700;color:var(--tone)}
#jobs .quiet .verb{font-weight:400}
#jobs .bad{color:var(--ends);font-weight:600}
#jobs td.more{grid-column:1/-1}
summary{cursor:pointer;color:var(--soft);width:max-content;max-width:100%;font-size:.9rem;padding:.1rem 0}
summary:hover{color:var(--ink)}
.in{margin:.3rem 0 .6rem;padding:.2rem .5rem .8rem;background:var(--panel);border-radius:6px}
.fields{width:auto;min-width:min(100%,44rem);margin-top:.5rem}
#jobs .fields th,#jobs .fields td{padding:.15rem .75rem;font-weight:400;min-width:6.5rem}
#jobs .fields thead th{color:var(--soft);font-size:.85rem}
.fields tr{color:var(--soft)}
#jobs .fields tr.diff :is(th,td){color:var(--ink);font-weight:700;background:var(--mark)}
.calls{margin:0;padding-left:2.2rem}
.times{margin:0 0 0 1.1rem;padding:0;list-style:none;border-left:2px solid var(--line)}
.times li{position:relative;padding:.1rem 0 .1rem 1.1rem}
.times li::before{content:"";position:absolute;left:-5px;top:.65em;width:8px;height:8px;border-radius:50%;
background:var(--soft)}
.times li.wrong::before{background:var(--ends)}
.times time{font-variant-numeric:tabular-nums;color:var(--soft)}
@media screen and (max-width:64rem){body{padding:1rem}
#jobs>thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
#jobs>tbody>tr{display:block;padding:.6rem .75rem;contain-intrinsic-size:auto 9rem}
#jobs>tbody>tr>td:not(.more){display:block;position:relative;padding-left:7rem;min-height:1.45em}
#jobs>tbody>tr>td:not(.more):empty{display:none}
#jobs>tbody>tr>td:not(.more)::before{position:absolute;left:0;color:var(--soft);font-weight:400}
#jobs>tbody>tr>td:nth-child(2)::before{content:"Desired"}
#jobs>tbody>tr>td:nth-child(3)::before{content:"Recorded"}
#jobs>tbody>tr>td:nth-child(4)::before{content:"Observed"}
#jobs>tbody>tr>td:nth-child(5)::before{content:"Action"}
#jobs>tbody>tr>td:nth-child(6)::before{content:"Calls"}
#jobs>tbody>tr>td:nth-child(7)::before{content:"Reason"}
#jobs>tbody>tr>td:nth-child(8)::before{content:"What to do"}
#jobs .fields th,#jobs .fields td{padding:.15rem .35rem;min-width:4.5rem}
.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.4rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--panel:#fff;--link:#000;--ends:#8f1d17;
--starts:#145a2a;--held:#5d2f7b;--records:#0b4d58;--left:#6b4000;--quiet:#444}
@page{size:A4 landscape;margin:12mm}
html{font-size:9px}body{padding:0;max-width:none;font-size:1rem}
.bar{display:none}
#jobs>thead{position:static}
#jobs>tbody>tr{content-visibility:visible;break-inside:avoid}
.in{border:1px solid var(--line)}#jobs .fields tr.diff :is(th,td){background:#eee;print-color-adjust:exact}}
"""

SCRIPT = """
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
"""
