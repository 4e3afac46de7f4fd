// A table whose rows are reached by the arrow keys. Everything that comes from data is set as text.
const SHAPES = { urgent: "▲", review: "◆", refused: "✕", done: "✓", open: "◐", waiting: "○" }
const SVG = "http://www.w3.org/2000/svg"
const tables = new WeakMap()

function element(tag, attributes, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== "") made.setAttribute(name, value)
  }
  made.append(...children)
  return made
}

function drawing(cell) {
  const [first, last] = cell.ends
  const place = (value) => 4 + (112 * (Math.min(Math.max(value, first), last) - first)) / (last - first)
  const svg = document.createElementNS(SVG, "svg")
  svg.setAttribute("viewBox", "0 0 120 14")
  svg.setAttribute("aria-hidden", "true") // the numbers stand beside it
  const [low, value, high] = cell.drawn
  const part = (tag, kind, attributes) => {
    const made = document.createElementNS(SVG, tag)
    made.setAttribute("class", kind)
    for (const [name, at] of Object.entries(attributes)) made.setAttribute(name, at)
    svg.append(made)
  }
  part("line", "track", { x1: 4, x2: 116, y1: 7, y2: 7 })
  part("line", "interval", { x1: place(low), x2: place(high), y1: 7, y2: 7 })
  part("circle", "point", { cx: place(value), cy: 7, r: 4 })
  return svg
}

function filled(cell) {
  const text = element("span", { class: "text", title: cell.text.length > 24 ? cell.text : "" }, cell.text)
  return cell.drawn ? [text, drawing(cell)] : [text]
}

function compared(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b
  return String(a).localeCompare(String(b), undefined, { numeric: true })
}

function sorted(data, sort) {
  if (!sort) return data.rows
  const value = (row) => {
    if (sort.name === "\u0000mark") return row.word
    const cell = row.cells[sort.name]
    return cell?.sort ?? cell?.text ?? ""
  }
  // What is urgent stays on top: sorting must never put it out of sight.
  return [...data.rows].sort(
    (a, b) => Number(b.pinned) - Number(a.pinned) || sort.way * compared(value(a), value(b)),
  )
}

function head(table, name, label, end) {
  const { sort } = table
  const way = sort?.name === name ? sort.way : 0
  const arrow = element("span", { class: "arrow", "aria-hidden": "true" }, way > 0 ? "↑" : way < 0 ? "↓" : "")
  const button = element("button", { type: "button", "data-sort": name }, label, arrow)
  button.onclick = () => {
    table.sort = way > 0 ? { name, way: -1 } : way < 0 ? null : { name, way: 1 }
    draw(table)
    table.root.querySelector(`[data-sort="${CSS.escape(name)}"]`)?.focus()
  }
  const order = way > 0 ? "ascending" : way < 0 ? "descending" : "none"
  return element("th", { scope: "col", class: end ? "end" : "", "aria-sort": order }, button)
}

function line(table, row) {
  const { data } = table
  const opens = Boolean(data.opens)
  const made = element("tr", { class: [row.tone, opens ? "opens" : ""].join(" ").trim() })
  data.columns.forEach((column, position) => {
    const cell = row.cells[column.name] ?? { text: "" }
    const kind = column.end ? "end" : ""
    if (position > 0) return made.append(element("td", { class: kind }, ...filled(cell)))
    const name = element("th", { scope: "row", class: kind })
    if (opens) {
      const what = data.opens.replace("{name}", cell.text)
      const button = element("button", { type: "button", "data-row": row.id, "aria-label": what }, ...filled(cell))
      button.onfocus = () => reach(table, row.id)
      name.append(button)
    } else name.append(...filled(cell))
    made.append(name)
  })
  if (data.mark) {
    const shape = element("span", { class: "shape", "aria-hidden": "true" }, SHAPES[row.tone] ?? "")
    made.firstChild.after(element("td", { class: "mark" }, shape, row.word))
  }
  // Not where a text was just selected, to be copied.
  if (opens) made.onclick = () => String(window.getSelection()) === "" && table.open(row.id)
  return made
}

function buttons(table) {
  return [...table.root.querySelectorAll("button[data-row]")]
}

function reach(table, id) {
  const all = buttons(table)
  const current = all.find((button) => button.dataset.row === id) ?? all[0]
  all.forEach((button) => (button.tabIndex = button === current ? 0 : -1))
  table.current = current?.dataset.row
}

function draw(table) {
  const { data, root } = table
  const inside = root.getRootNode().activeElement
  const held = root.contains(inside) ? inside.dataset.row : undefined
  root.dir = data.direction
  const heads = data.columns.map((column) => head(table, column.name, column.label, column.end))
  if (data.mark) heads.splice(1, 0, head(table, "\u0000mark", data.mark, false))
  const rows = sorted(data, table.sort).map((row) => line(table, row))
  const body = element(
    "table", { "aria-label": data.label },
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  )
  const scroll = element("div", { class: "scroll", role: "region", "aria-label": data.label, tabindex: "0" }, body)
  const left = root.querySelector(".scroll")?.scrollLeft ?? 0
  root.replaceChildren(scroll)
  scroll.scrollLeft = left
  reach(table, table.current)
  if (held) buttons(table).find((button) => button.dataset.row === held)?.focus()
}

function move(table, event) {
  const all = buttons(table)
  const at = all.indexOf(event.target.closest?.("button[data-row]"))
  if (at < 0) return
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key]
  if (to === undefined) return
  event.preventDefault()
  all[Math.min(Math.max(to, 0), all.length - 1)]?.focus()
}

function writes(event) {
  const target = event.composedPath()[0]
  return target?.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target?.tagName)
}

export default function (component) {
  const { parentElement, setTriggerValue } = component
  const data = dataOf(component)
  const root = parentElement.querySelector(".rows")
  if (!root || !data) return
  let table = tables.get(parentElement)
  if (!table) {
    table = { sort: null, current: undefined, drawn: "" }
    tables.set(parentElement, table)
    table.slash = (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writes(event)) return
      const field = table.data.search && document.querySelector(`.st-key-${CSS.escape(table.data.search)} input`)
      if (!field) return
      event.preventDefault()
      field.focus()
      field.select()
    }
    document.addEventListener("keydown", table.slash)
  }
  table.root = root
  table.data = data
  table.open = (id) => setTriggerValue("open", id)
  root.onkeydown = (event) => move(table, event)
  const now = JSON.stringify(data)
  if (now !== table.drawn || !root.firstChild) draw(table)
  table.drawn = now
  return () => {
    document.removeEventListener("keydown", table.slash)
    tables.delete(parentElement)
  }
}
