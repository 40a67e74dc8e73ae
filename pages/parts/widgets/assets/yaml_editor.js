// Colours, line numbers and marks for the text area in the same container. The area stays Streamlit's own: it holds the
// text, saves it, and is what a keyboard and a screen reader meet; this draws over it and never changes it by itself.

const MOST_COLOURED_LINES = 3000;
const SIGNS = { error: "✗", warning: "▲", hint: "●" };
const WORST = ["error", "warning", "hint"];
const TOKEN = /(?<comment>(?:^|(?<=\s))#.*$)|(?<text>"(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?)|(?<number>(?<![\w.-])[-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+|0x[\da-fA-F]+)(?![\w.-]))|(?<word>(?<![\w.-])(?:true|false|null|~)(?![\w.-]))/g;
const KEY = /^(\s*(?:- +)*)("[^"]*"|'[^']*'|[^\s#"'&*!|>%@`[\]{},-][^#]*?)(\s*:)(?=\s|$)/;

const kept = new WeakMap();

export default function ({ data, parentElement }) {
  const editor = kept.get(parentElement) ?? made(parentElement);
  editor.data = data;
  attach(editor);
  draw(editor);
  return () => {
    editor.watch.disconnect();
    editor.sizes.disconnect();
    editor.listening?.abort();
    kept.delete(parentElement);
    editor.layer.remove();
  };
}

function made(parentElement) {
  const layer = element("div", "fd-yaml");
  const code = element("pre", "");
  const gutter = element("div", "fd-yaml-gutter");
  const lines = element("div", "fd-yaml-lines");
  code.setAttribute("aria-hidden", "true"); // its text is the area's
  gutter.append(lines);
  layer.append(code, gutter);
  parentElement.append(layer);
  const editor = { parentElement, layer, code, lines, area: null, data: {} };
  editor.box = parentElement.closest(".st-key-yaml_editor");
  editor.sizes = new ResizeObserver(() => place(editor));
  editor.watch = new MutationObserver(() => { if (attach(editor)) draw(editor); });
  editor.watch.observe(editor.box, { childList: true, subtree: true });
  kept.set(parentElement, editor);
  return editor;
}

// Streamlit makes the area anew when the text came from elsewhere.
function attach(editor) {
  const area = editor.box.querySelector("textarea");
  if (!area || area === editor.area) return false;
  editor.listening?.abort();
  editor.listening = new AbortController();
  const heard = { signal: editor.listening.signal };
  editor.sizes.disconnect();
  editor.area = area;
  area.spellcheck = false;
  area.wrap = "off";
  area.addEventListener("input", () => draw(editor), heard);
  area.addEventListener("scroll", () => scroll(editor), heard);
  area.addEventListener("keydown", (event) => press(editor, event), heard);
  area.addEventListener("blur", () => { editor.leaves = false; }, heard);
  editor.sizes.observe(area);
  editor.sizes.observe(editor.box);
  return true;
}

// Tab writes two spaces; after Escape it leaves the field, as Shift and Tab always does. Enter keeps the indent.
function press(editor, event) {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    editor.leaves = true;
  } else if (event.key === "Tab" && !event.shiftKey && !editor.leaves) {
    event.preventDefault();
    type("  ");
  } else if (event.key === "Enter") {
    const before = editor.area.value.slice(0, editor.area.selectionStart);
    const indent = /^ *(?:- )?/.exec(before.slice(before.lastIndexOf("\n") + 1))[0].replace("-", " ");
    if (indent) {
      event.preventDefault();
      type(`\n${indent}`);
    }
  } else if (event.key !== "Shift") {
    editor.leaves = false;
  }
}

// As if it were typed: it can be undone, and Streamlit hears of it.
function type(text) {
  document.execCommand("insertText", false, text);
}

function draw(editor) {
  if (!editor.area) return;
  const lines = editor.area.value.split("\n");
  const marks = marksNow(editor.data, lines);
  const coloured = lines.length <= MOST_COLOURED_LINES;
  const code = document.createDocumentFragment();
  const numbers = document.createDocumentFragment();
  let inside = -1; // the indent of the key whose text runs over lines
  lines.forEach((line, index) => {
    const indent = line.search(/\S/);
    if (inside >= 0 && indent >= 0 && indent <= inside) inside = -1;
    const found = marks.get(index);
    const parts = !coloured ? [line] : inside >= 0 ? [piece(line, "text")] : pieces(line);
    if (found) {
      const row = element("span", "fd-yaml-found");
      row.dataset.severity = found.severity;
      const end = parts.findIndex((part) => part.className === "fd-yaml-comment");
      row.append(...parts.splice(0, end < 0 ? parts.length : end));
      parts.unshift(row);
    }
    code.append(...parts, "\n");
    if (inside < 0 && /:\s*[|>][-+\d]*\s*(#.*)?$/.test(line)) inside = Math.max(indent, 0);
    numbers.append(numbered(index, found));
  });
  editor.code.replaceChildren(code);
  editor.lines.replaceChildren(numbers);
  place(editor);
}

function numbered(index, found) {
  const row = element("div", "fd-yaml-line");
  if (found) {
    const mark = element("span", "fd-yaml-mark");
    mark.dataset.severity = found.severity;
    mark.textContent = SIGNS[found.severity];
    mark.title = found.says;
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", found.says);
    row.append(mark);
  }
  const number = element("span", "");
  number.textContent = index + 1;
  number.setAttribute("aria-hidden", "true");
  row.append(number);
  return row;
}

// Index of a line → what is to be said of it. What was found in the text as it was saved moves with its line.
function marksNow({ marks, text }, lines) {
  const saved = text.split("\n");
  const shared = Math.min(saved.length, lines.length);
  let same = 0;
  while (same < shared && saved[same] === lines[same]) same += 1;
  let tail = 0;
  while (tail < shared - same && saved[saved.length - 1 - tail] === lines[lines.length - 1 - tail]) tail += 1;
  const placed = new Map();
  for (const { line, severity, says } of marks) {
    let index = line - 1;
    if (index >= saved.length - tail) index += lines.length - saved.length;
    else if (index >= same) continue; // typed over
    const known = placed.get(index);
    const worst = known && WORST.indexOf(known.severity) <= WORST.indexOf(severity) ? known.severity : severity;
    placed.set(index, { severity: worst, says: known ? `${known.says}\n${says}` : says });
  }
  return placed;
}

function pieces(line) {
  const parts = [];
  const key = KEY.exec(line);
  let rest = line;
  if (key) {
    parts.push(document.createTextNode(key[1]), piece(key[2], "key"), document.createTextNode(key[3]));
    rest = line.slice(key[0].length);
  }
  let at = 0;
  for (const token of rest.matchAll(TOKEN)) {
    const kind = Object.keys(token.groups).find((name) => token.groups[name] !== undefined);
    parts.push(document.createTextNode(rest.slice(at, token.index)), piece(token[0], kind));
    at = token.index + token[0].length;
  }
  parts.push(document.createTextNode(rest.slice(at)));
  return parts;
}

function piece(text, kind) {
  const made = element("span", `fd-yaml-${kind}`);
  made.textContent = text;
  return made;
}

// Over the area, whatever stands around it.
function place(editor) {
  if (!editor.area?.isConnected) return;
  const { layer, area } = editor;
  const from = (layer.offsetParent ?? document.body).getBoundingClientRect();
  const over = area.getBoundingClientRect();
  layer.style.left = `${over.left - from.left}px`;
  layer.style.top = `${over.top - from.top}px`;
  layer.style.width = `${area.clientWidth}px`;
  layer.style.height = `${area.clientHeight}px`;
  scroll(editor);
}

function scroll({ area, code, lines }) {
  code.style.transform = `translate(${-area.scrollLeft}px, ${-area.scrollTop}px)`;
  lines.style.transform = `translateY(${-area.scrollTop}px)`;
}

function element(name, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}
