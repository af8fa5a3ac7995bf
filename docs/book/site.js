// Long names in tables, those of tests above all, may break where their parts meet.
for (const code of document.querySelectorAll("td code")) {
  if (code.textContent.length > 30) {
    code.innerHTML = code.innerHTML.replace(/::|_|\//g, "$&<wbr>");
  }
}
