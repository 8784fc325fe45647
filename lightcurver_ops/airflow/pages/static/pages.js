// What all pages share: the theme of Airflow around them, links out of the frame, tables that sort and filter.
"use strict";

(() => {
  // Airflow's page around this one; null where there is none, or it is not ours to look at.
  let around = null;
  try {
    if (window.parent !== window) around = window.parent.document;
  } catch { around = null; }

  const follow = () => {
    const root = around.documentElement;
    const theme = ["dark", "light"].find((one) => root.classList.contains(one)) || root.dataset.theme;
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  if (around) {
    follow();
    new MutationObserver(follow).observe(around.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
  }

  // The frame may not navigate what is around it; a link there may.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-top]");
    if (!link || !around || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const outside = around.createElement("a");
    outside.href = link.href;
    around.body.append(outside);
    outside.click();
    outside.remove();
  });

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    if (text === "" || text === "–") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;

  for (const table of document.querySelectorAll("table[data-sort]")) {
    table.tHead.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (!event.target.closest("button") || !head) return;
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.classList.contains("number");
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, head.cellIndex), row]);
      // What is not known comes last, whichever way.
      rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : down ? compare(b, a) : compare(a, b));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  }

  for (const form of document.querySelectorAll("form[data-filter]")) {
    const rows = [...document.getElementById(form.dataset.filter).tBodies[0].rows];
    const texts = rows.map((row) => [...row.cells].slice(0, 8).map((cell) => cell.textContent).join(" ").toLowerCase());
    const show = () => {
      const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const sigma = form.elements.sigma.value === "" ? -1 : Number(form.elements.sigma.value);
      let count = 0;
      rows.forEach((row, i) => {
        const fits = words.every((word) => texts[i].includes(word)) && (!form.elements.failing.checked || row.dataset.failing !== "0") && Number(row.dataset.sigma) > sigma;
        row.hidden = !fits;
        count += fits;
      });
      form.querySelector("[data-count]").textContent = `${count} of ${rows.length}`;
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    // On a slow line somebody has typed before this script was here.
    if (form.elements.text.value || form.elements.sigma.value || form.elements.failing.checked) show();
  }

  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.addEventListener("change", (event) => { if (event.target.matches("select")) form.submit(); });
  }

  // A form about ticked rows says what is missing before it is sent.
  for (const form of document.querySelectorAll("form[data-needs]")) {
    const boxes = () => [...form.querySelectorAll(`input[name="${form.dataset.needs}"]`)];
    form.querySelector("input[data-all]")?.addEventListener("change", (event) => boxes().forEach((box) => { box.checked = event.target.checked; }));
    form.addEventListener("submit", (event) => {
      if (boxes().some((box) => box.checked)) return;
      event.preventDefault();
      boxes()[0]?.focus();
    });
  }
  for (const form of document.querySelectorAll('form[method="post"]')) {
    form.addEventListener("submit", (event) => {
      const comment = form.elements.comment;
      const leavesOut = ["exclude_frames", "exclude_stars"].some((name) => form.elements[name]?.value.trim());
      const needed = leavesOut || ["eliminate", "exclude"].includes(event.submitter?.value);
      comment.setCustomValidity(needed && !comment.value.trim() ? "Say why: the comment is kept with the decision." : "");
      if (!comment.reportValidity()) event.preventDefault();
    });
    form.elements.comment?.addEventListener("input", (event) => event.target.setCustomValidity(""));
  }

  for (const box of document.querySelectorAll("input[data-show]")) {
    const show = () => document.getElementById(box.dataset.show).classList.toggle("hidden", !box.checked);
    box.addEventListener("change", show);
    show();
  }

  // The server draws few pictures at a time: those that it had no place for are asked for again.
  for (const image of document.querySelectorAll('img[src$=".png"]')) {
    let tries = 0;
    const again = async () => {
      tries += 1;
      const answer = tries <= 6 && await fetch(image.src).catch(() => null);
      // What is not there is not asked for again.
      if (!answer || (answer.status !== 503 && !answer.ok)) return;
      setTimeout(() => { image.src = image.getAttribute("src"); }, answer.ok ? 0 : 1000 * tries + 500 * Math.random());
    };
    image.addEventListener("error", again);
    if (image.complete && !image.naturalWidth) again();
  }
})();
