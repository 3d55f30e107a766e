"use strict";
(() => {
  const MINUTE = 60, HOUR = 3600, DAY = 86400;
  const created = new Date(document.body.dataset.createdAt);
  const staleAfterS = Number(document.body.dataset.staleAfterS);

  // -- times: ages are those at the making of the page; only the page's own age runs on --------------------------------

  const span = (seconds) => {
    if (seconds < MINUTE) return `${Math.max(0, Math.floor(seconds))} s`;
    if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
    if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)} h`;
    return `${Math.floor(seconds / DAY)} days`;
  };

  const showAges = () => {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const moment = new Date(time.dateTime);
      const seconds = (created - moment) / 1000;
      time.title = `${time.textContent} – ${moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" })}`;
      time.textContent = seconds < -MINUTE ? `in ${span(-seconds)}` : `${span(seconds)} ago`;
    }
  };

  const showAgeOfPage = () => {
    const seconds = (Date.now() - created) / 1000;
    document.getElementById("age").textContent = seconds < MINUTE ? "just now" : `${span(seconds)} ago`;
    const stale = document.getElementById("stale");
    stale.hidden = !(seconds > staleAfterS);
    stale.textContent = `This page is ${span(seconds)} old. What it shows may have changed since; the pipeline's job “pages” renews it.`;
  };

  // -- environments: one at a time ------------------------------------------------------------------------------------

  const environments = [...document.querySelectorAll(".environment")];
  const links = [...document.querySelectorAll(".environments a")];

  const show = (name) => {
    for (const one of environments) one.hidden = one.id !== name;
    for (const link of links) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };

  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const chosen = target && target.closest(".environment");
    if (chosen) {
      show(chosen.id);
      target.scrollIntoView();
    }
  };

  // -- devices: search, filter, sort ----------------------------------------------------------------------------------

  const FIRST_ROWS = 100;

  class Devices {
    constructor(section) {
      this.section = section;
      this.search = section.querySelector("input[type=search]");
      this.choices = [...section.querySelectorAll("select")];
      this.count = section.querySelector(".shown");
      this.body = section.querySelector("tbody");
      this.all = section.querySelector(".again button");
      this.rows = [...this.body.rows].map((row) => ({ row, text: row.textContent.toLowerCase(), data: row.dataset }));
      this.limit = FIRST_ROWS;
      this.asked = 0;
      section.querySelector(".filter").hidden = false;
      this.search.addEventListener("input", () => this.ask());
      this.search.addEventListener("keydown", (event) => { if (event.key === "Escape") { this.search.value = ""; this.ask(); } });
      for (const choice of this.choices) choice.addEventListener("change", () => this.ask());
      section.querySelector(".filter button").addEventListener("click", () => this.choose({}));
      this.all.addEventListener("click", () => { this.limit = Infinity; this.apply(); this.section.querySelector(".scroll").focus(); });
      section.querySelectorAll("thead button").forEach((button, column) => button.addEventListener("click", () => this.sort(button, column)));
      this.apply();
    }

    // Typing faster than the browser paints asks once a frame.
    ask() {
      cancelAnimationFrame(this.asked);
      this.asked = requestAnimationFrame(() => { this.limit = FIRST_ROWS; this.apply(); });
    }

    choose(values) {
      this.search.value = "";
      for (const choice of this.choices) choice.value = values[choice.name] || "";
      this.limit = FIRST_ROWS;
      this.apply();
    }

    apply() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = this.choices.filter((choice) => choice.value).map((choice) => [choice.name, choice.value]);
      let found = 0;
      for (const { row, text, data } of this.rows) {
        const fits = wanted.every(([name, value]) => data[name] === value) && words.every((word) => text.includes(word));
        const hidden = !fits || ++found > this.limit;
        if (row.hidden !== hidden) row.hidden = hidden;
      }
      const shown = Math.min(found, this.limit);
      const number = (value) => value.toLocaleString("en");
      const total = number(this.rows.length);
      this.count.textContent = !found ? `None of ${total} devices fits.`
        : shown < found ? `The first ${number(shown)} of ${number(found)} that fit, of ${total} devices.`
        : `${number(found)} of ${total} devices.`;
      this.all.parentElement.hidden = shown === found;
      this.all.textContent = `Show all ${number(found)}`;
    }

    sort(button, column) {
      const header = button.closest("th");
      const down = header.getAttribute("aria-sort") === "ascending";
      for (const other of this.section.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = ({ row }) => row.cells[column].dataset.sort || row.cells[column].textContent;
      const keyed = this.rows.map((row) => [key(row), row]);
      const { compare } = new Intl.Collator("en", { numeric: true });
      keyed.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      this.rows = keyed.map(([, row]) => row);
      this.body.append(...this.rows.map(({ row }) => row));
      this.apply();
    }
  }

  // -------------------------------------------------------------------------------------------------------------------

  showAges();
  showAgeOfPage();
  setInterval(showAgeOfPage, 30000);
  const tables = new Map([...document.querySelectorAll(".devices")].filter((section) => section.querySelector("table"))
    .map((section) => [section.closest(".environment").id, new Devices(section)]));
  if (environments.length > 1) show(document.body.dataset.first);
  follow();
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-health]");
    const table = link && tables.get(link.closest(".environment").id);
    if (table) table.choose({ health: link.dataset.health });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const table = [...tables.values()].find(({ section }) => !section.closest(".environment").hidden);
    if (!table) return;
    event.preventDefault();
    table.search.focus();
  });
})();
