"use strict";
// Tables and code that scroll can be reached and scrolled with the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  for (const each of document.querySelectorAll(".table-wrapper, .highlight pre"))
    new ResizeObserver(() => {
      if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
      else each.removeAttribute("tabindex");
    }).observe(each);
});
