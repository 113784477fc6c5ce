// The lag chart keeps itself up to date: every 10 s, not on hidden tabs. Without this file it is a link to a page of its own.
"use strict";
setInterval(() => {
  const chart = document.getElementById("lag");
  if (chart && window.htmx && !document.hidden) htmx.trigger(chart, "lag");
}, 10000);
