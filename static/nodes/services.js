// App Services and its log: when the last pass was, and a time range in the reader's own zone. Both work without this file.
"use strict";
(() => {
  // --- "3 s ago" as a moment: the age comes with every answer, so the moment needs no new list
  const language = document.documentElement.lang || undefined;
  const moments = new Map();
  function writeMoments() {
    for (const time of document.querySelectorAll("time[data-at-age]")) {
      const at = moments.get(time.dataset.atAge);
      if (at === undefined) continue;
      const moment = new Date(at);
      const today = moment.toDateString() === new Date().toDateString();
      time.textContent = today ? moment.toLocaleTimeString(language) : moment.toLocaleString(language);
      time.dateTime = moment.toISOString();
      time.title = `${moment.toISOString().slice(0, 19).replace("T", " ")} UTC`;
    }
  }
  function learn(key, seconds) {
    if (seconds === null) return;
    const at = Date.now() - seconds * 1000;
    // The answer's way here is not always equally long: the same moment does not jump about.
    if (!moments.has(key) || Math.abs(at - moments.get(key)) > 1000) moments.set(key, at);
  }
  document.body.addEventListener("ages", (event) => {
    for (const [key, seconds] of Object.entries(event.detail.value || event.detail)) learn(key, seconds);
    writeMoments();
  });
  document.body.addEventListener("htmx:afterSwap", writeMoments);
  for (const span of document.querySelectorAll(".age[data-age-key]"))
    if (span.dataset.age) learn(span.dataset.ageKey, Number(span.dataset.age));
  writeMoments();

  // --- the log's time range: UTC in the address, so that a link means the same to everybody; the reader's zone in the form
  const two = (number) => String(number).padStart(2, "0");
  const local = (at) =>
    `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
  for (const form of document.querySelectorAll("form[data-utc-form]")) {
    for (const input of form.querySelectorAll("input[data-utc]")) {
      const at = new Date(`${input.value}Z`);
      if (input.value && !Number.isNaN(at.getTime())) input.value = local(at);
    }
    form.querySelector("[data-zone]").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
    form.addEventListener("formdata", (event) => {
      for (const input of form.querySelectorAll("input[data-utc]")) {
        const at = new Date(input.value);
        if (input.value && !Number.isNaN(at.getTime())) event.formData.set(input.name, at.toISOString().slice(0, 16));
      }
      for (const [name, value] of [...event.formData.entries()]) if (value === "") event.formData.delete(name);
    });
  }
})();
