// The entry that Streamlit calls: again whenever its data change, and once more to clean up.

const DESKS = new WeakMap();

function sameDesk(one, other) {
  return JSON.stringify({ ...one, token: "" }) === JSON.stringify({ ...other, token: "" });
}

export default function (component) {
  const { parentElement, setTriggerValue } = component;
  const data = dataOf(component);
  const root = parentElement.querySelector(".desk");
  let desk = DESKS.get(parentElement);
  if (desk && (!sameDesk(desk.data, data) || desk.root !== root)) {
    desk.close();
    desk = undefined;
  }
  if (desk) desk.renew(data, setTriggerValue);
  else desk = new Desk(root, data, setTriggerValue);
  setTheme(root);
  DESKS.set(parentElement, desk);
  return () => {
    const last = DESKS.get(parentElement);
    DESKS.delete(parentElement);
    if (last) last.close();
  };
}
