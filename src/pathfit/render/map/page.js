"use strict";
(() => {
  const $ = (s) => document.querySelector(s);
  const all = (s) => Array.from(document.querySelectorAll(s));
  const body = document.body, panel = $("#panel"), hint = $("#hint"), what = $("#what"), list = $("#list");
  const FEW = 8, MOST = 2000;
  const rows = new Map(), spaces = new Map();
  for (const tr of all("tr[data-c]")) {
    const put = (map, key) => { if (!map.has(key)) map.set(key, []); map.get(key).push(tr); };
    put(rows, tr.dataset.c);
    put(spaces, tr.dataset.g);
  }
  const found = (g) => {
    if (g.dataset.c) return rows.get(g.dataset.c) || [];
    if (g.dataset.n) return spaces.get(g.dataset.n) || [];
    return (g.dataset.b || "").split(" ").flatMap((c) => rows.get(c) || []);
  };
  let pinned = null;
  const show = (g, whole) => {
    const of = found(g), most = whole ? MOST : FEW;
    hint.hidden = true;
    panel.classList.add("open");
    what.textContent = g.getAttribute("aria-label");
    list.replaceChildren();
    for (const tr of of.slice(0, most)) {
      const copy = list.insertRow();
      [0, 1, 3, 2, 5, 6].forEach((n) => {
        const text = tr.cells[n].textContent;
        copy.insertCell().textContent = text;
      });
    }
    if (of.length > most) list.insertRow().insertCell().textContent = "+" + (of.length - most);
    $("#close").hidden = !whole;
  };
  const clear = () => { pinned = null; panel.classList.remove("open"); hint.hidden = false; what.textContent = ""; list.replaceChildren(); $("#close").hidden = true; };
  for (const g of all(".chip,.box,.pill")) {
    g.addEventListener("mouseenter", () => { if (!pinned) show(g, false); });
    g.addEventListener("focus", () => { if (!pinned) show(g, false); });
    const pin = (e) => { e.stopPropagation(); pinned = g; show(g, true); panel.scrollTop = 0; };
    g.addEventListener("click", pin);
    g.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pin(e); } });
  }
  $("#close").addEventListener("click", clear);
  const search = $("#find"), count = $("#found");
  const lines = new Map(all("tr[data-c]").map((tr) => [tr, Array.from(tr.cells, (c) => c.textContent).join(" ").toLowerCase()]));
  const look = () => {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => words.every((w) => text.includes(w));
    body.classList.toggle("finding", words.length > 0);
    let hits = 0;
    for (const [tr, line] of lines) {
      tr.hidden = !fits(line);
      hits += !tr.hidden;
    }
    for (const g of all(".chip,.box,.pill")) {
      const hit = words.length > 0 && (fits(g.getAttribute("aria-label").toLowerCase()) || found(g).some((tr) => !tr.hidden));
      g.classList.toggle("hit", hit);
    }
    count.textContent = words.length ? count.dataset.text.replace("#", hits) : "";
  };
  search.addEventListener("input", look);
  const asked = () => {  // map.html#find=web.3 can be sent to somebody
    if (!location.hash.startsWith("#find=")) return;
    try { search.value = decodeURIComponent(location.hash.slice(6)); } catch { return; }
    look();
  };
  window.addEventListener("hashchange", asked);
  asked();
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && document.activeElement !== search) { e.preventDefault(); search.focus(); }
    if (e.key === "Escape") { search.value = ""; look(); clear(); }
  });
  $("#fit").addEventListener("click", (e) => {
    const on = body.classList.toggle("fit");
    e.target.setAttribute("aria-pressed", String(on));
  });
  for (const x of all(".scripted")) x.hidden = false;
})();
