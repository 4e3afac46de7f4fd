// What Python gave. In a list: of a plain object Streamlit asks each value whether it is a table, for which it
// imports pandas before the first page.
function dataOf(component) {
  return Array.isArray(component.data) ? component.data[0] : component.data;
}
