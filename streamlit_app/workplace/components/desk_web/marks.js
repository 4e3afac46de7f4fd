// The marks of what the model says: a shape of its own and a word, never colour alone.

const SHAPES = {
  malignant: "M8 1.5 15 14H1Z",
  benign: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Z",
  review: "M8 1 15 8 8 15 1 8Z",
  refused: "M2.5 2.5h11v11h-11ZM5 5l6 6M11 5l-6 6",
  unreadable: "M2.5 2.5h11v11h-11ZM5 5l6 6M11 5l-6 6",
  waiting: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 5v3.5l2.5 1.5",
  hidden: "M2 8h12",
  open: "M8 1 15 8 8 15 1 8Z",
  accepted: "M2.5 8.5 6.5 12.5 13.5 4",
};
const FILLED = new Set(["malignant", "review"]);

function mark(tone) {
  const path = draw("path", { d: SHAPES[tone] || SHAPES.open, class: FILLED.has(tone) ? "full" : "line" });
  return draw("svg", { class: `mark tone-${tone}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}

function setMark(holder, tone) {
  if (holder.dataset.tone === tone) return;
  holder.dataset.tone = tone;
  holder.replaceChildren(mark(tone));
}

// The word beside the mark on a thumbnail.
function stateWord(field, reading, say) {
  if (field.state === "accepted") return reading.display(field.label);
  return say(`state.${field.state}`);
}

function groupWord(group, reading, say) {
  if (group === "review" || LAST_GROUPS.includes(group)) return say(`group.${group}`);
  return reading.display(group);
}

// The whole field in one sentence, for who hears the page.
function fieldAloud(field, reading, say) {
  const label = reading.label(field);
  const parts = [say("field.title", { number: field.number }), field.headline || stateWord(field, reading, say)];
  parts.push(label === null ? say("field.not_read") : say("field.yours", { label: reading.display(label) }));
  if (reading.why(field)) parts.push(say("viewer.because", { why: reading.why(field) }));
  if (reading.unsaved(field)) parts.push(say("field.unsaved"));
  if (reading.errors.has(field.id)) parts.push(say("field.error"));
  return parts.join(", ");
}
