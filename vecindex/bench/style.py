"""How a report's page looks, and the little script that shows a point's figures."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #667; --rule: #e3e6ea;
  --strong: #d5e8d8; --warn: #f6d5d0; --front: #8a93a0; }
.c0 { --c: #0067b1 } .c1 { --c: #d1480b } .c2 { --c: #00845c } .c3 { --c: #b34a8d }
.c4 { --c: #8a6d00 } .c5 { --c: #5b4bc4 } .c6 { --c: #0092a8 } .c7 { --c: #8f3b2e }
.c8 { --c: #4d7a17 } .c9 { --c: #5f6873 }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171b; --text: #e8eaed; --soft: #9aa3ad; --rule: #2c3238; --strong: #1f3b28;
    --warn: #54231d; --front: #7b8592; }
  .c0 { --c: #5aaef0 } .c1 { --c: #ff8a50 } .c2 { --c: #35c796 } .c3 { --c: #ea8cc6 }
  .c4 { --c: #e0bb3c } .c5 { --c: #a79bff } .c6 { --c: #4fd3e6 } .c7 { --c: #e28c7e }
  .c8 { --c: #9fce5f } .c9 { --c: #aab4bf }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 4px 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 28px 0 8px; }
.summary, figcaption, details summary { color: var(--soft); font-size: .875rem; }
.plot { position: relative; margin: 12px 0; max-width: 820px; }
.plot > svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 13px; }
.tick { text-anchor: middle } .end { text-anchor: end }
.grid { stroke: var(--rule); stroke-width: 1; fill: none }
.target { stroke: var(--text); stroke-width: 1; stroke-dasharray: 5 4; fill: none; opacity: .7 }
.frontier { stroke: var(--front); stroke-width: 2.5; fill: none; opacity: .75 }
.line { stroke: var(--c); stroke-width: 1.3; fill: none; opacity: .6 }
.mark { fill: var(--c, var(--soft)); stroke: var(--back); stroke-width: .8 }
.ring { fill: none; stroke: var(--c, var(--soft)); stroke-width: 1.6 }
.point { cursor: pointer; outline: none }
.point.on .mark, .point:focus-visible .mark { stroke: var(--text); stroke-width: 2 }
@media (min-width: 700px) {
  svg text { font-size: 8px }
  .point .mark, .point .ring { transform: scale(.68) }
  .line { stroke-width: .9 } .frontier { stroke-width: 1.6 } .target { stroke-width: .7 }
  .grid { stroke-width: .6 } .key .frontier { stroke-width: 2.5 }
}
.tip { position: absolute; z-index: 2; max-width: min(300px, 92%); padding: 8px 10px;
  background: var(--text); color: var(--back); border-radius: 6px; font-size: .8125rem;
  line-height: 1.4; white-space: pre-line; pointer-events: none; overflow-wrap: anywhere; }
.tip[hidden] { display: none }
.keys { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; margin: 4px 0; padding: 0;
  color: var(--text); }
.keys li { display: flex; align-items: center; gap: 6px }
.key { width: 16px; height: 16px; flex: none }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums;
  white-space: nowrap; width: 100%; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); }
thead th { font-weight: 600; color: var(--soft); vertical-align: bottom; white-space: normal; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--back); }
tbody th, .word, thead th:first-child, thead th:nth-child(2) { text-align: left }
tbody th { font-weight: 500 }
tbody tr:last-child > * { border-bottom: 0 }
.best td, .best th { background: var(--strong) } .short td, .short th { background: var(--warn) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; font-size: .875rem; }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
"""
"""Light and dark, from a phone to a desk; the plot's lettering keeps its size on both."""

SCRIPT = """
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg"), tip = plot.querySelector(".tip");
  const points = [...svg.querySelectorAll(".point")];
  for (const point of points) {
    const title = point.querySelector("title");
    point.dataset.tip = title.textContent;
    point.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const where = point => point.querySelector(".mark").getBoundingClientRect();
  const far = (point, x, y) => {
    const mark = where(point);
    return Math.hypot(mark.left + mark.width / 2 - x, mark.top + mark.height / 2 - y);
  };
  const crowd = point => {
    const mark = where(point), x = mark.left + mark.width / 2, y = mark.top + mark.height / 2;
    return points.filter(other => far(other, x, y) < 5);
  };
  let shown = null;
  const show = point => {
    if (point === shown) return;
    if (shown) shown.classList.remove("on");
    shown = point;
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("on");
    const same = crowd(point).filter(other => other !== point);
    const also = same.map(other => "also here: " + other.dataset.tip.split("\\n")[0]);
    tip.textContent = [point.dataset.tip, ...also].join("\\n");
    const box = plot.getBoundingClientRect();
    const mark = where(point);
    const x = mark.left + mark.width / 2 - box.left, y = mark.top - box.top;
    const left = Math.max(0, Math.min(x - tip.offsetWidth / 2, box.width - tip.offsetWidth));
    const above = y - tip.offsetHeight - 10;
    tip.style.left = left + "px";
    tip.style.top = (above >= 0 ? above : y + mark.height + 10) + "px";
  };
  const nearest = event => {
    const at = point => far(point, event.clientX, event.clientY);
    const best = points.reduce((one, other) => (at(other) < at(one) ? other : one));
    return at(best) < 28 ? best : null;
  };
  const next = point => {
    const group = point ? crowd(point) : [];
    return group.includes(shown) ? group[(group.indexOf(shown) + 1) % group.length] : point;
  };
  const hover = point => {
    if (!point || !crowd(point).includes(shown)) show(point);
  };
  const byMouse = event => event.pointerType === "mouse";
  svg.addEventListener("pointermove", event => { if (byMouse(event)) hover(nearest(event)); });
  svg.addEventListener("pointerleave", event => { if (byMouse(event)) show(null); });
  svg.addEventListener("click", event => show(next(nearest(event))));
  svg.addEventListener("focusin", event => show(event.target.closest(".point")));
}
"""
"""Shows the figures of the point that is nearest to a pointer or a tap, or has the focus.

Where points lie on each other, the others are named, and another tap goes on to the next.
"""
