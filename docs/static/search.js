"use strict";
// A search for a whole error text finds it. Sphinx asks for pages that have every word, and a text has words that are on no
// page, such as names and numbers of the reader's own. They are left out; of a long text of which the page of error messages
// has most words, all others are.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const parse = Search._parseQuery;
  Search._parseQuery = query => {
    const parsed = parse(query), { docnames, terms, titleterms } = Search._index;
    const pages = term => [terms, titleterms].flatMap(index => Object.hasOwn(index, term) ? index[term] : []);
    const known = [...parsed[1]].filter(term => pages(term).length);
    const messages = docnames.indexOf("reference/messages");
    const said = known.filter(term => pages(term).includes(messages));
    if (said.length > 3 && said.length > known.length / 2) parsed[1] = new Set(said);
    else if (known.length) parsed[1] = new Set(known);
    return parsed;
  };
});
