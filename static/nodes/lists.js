// Lists and what they lead to: the times of a filter in the reader's own zone, a short address, copying a permalink, printing.
// All of it works without this file.
"use strict";
(() => {
  const _ = window.gettext || ((text) => text);
  const two = (number) => String(number).padStart(2, "0");
  const form = document.querySelector("form.list-filter");

  // The server writes UTC; the address keeps UTC too, so that it means the same to whoever it is sent to.
  function local(at) {
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return `${day}T${two(at.getHours())}:${two(at.getMinutes())}` + (at.getSeconds() ? `:${two(at.getSeconds())}` : "");
  }
  if (form) {
    for (const input of form.querySelectorAll("input[data-utc]")) {
      if (input.dataset.utc) input.value = local(new Date(`${input.dataset.utc}Z`));
    }
    for (const zone of form.querySelectorAll("[data-zone]")) {
      zone.textContent = _("(your time)");
      zone.title = Intl.DateTimeFormat().resolvedOptions().timeZone;
    }
    form.addEventListener("formdata", (event) => {
      for (const [name, value] of [...event.formData.entries()]) {
        const field = form.elements[name];
        if (!value.trim()) event.formData.delete(name);
        else if (field && field.dataset.utc !== undefined) {
          const at = new Date(value);
          if (!Number.isNaN(at.getTime())) event.formData.set(name, at.toISOString().replace(/(:00)?\.\d+Z$/, "Z"));
        }
      }
    });
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    const field = document.getElementById(button.dataset.copy);
    const word = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
      } catch {
        document.execCommand("copy"); // without HTTPS there is no clipboard
      }
      button.textContent = button.dataset.copied;
      setTimeout(() => { button.textContent = word; }, 2000);
    });
  }

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
})();
