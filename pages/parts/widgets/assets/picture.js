// A button that saves a picture in SVG as PNG, drawn by the browser with the reader's own fonts.

const SCALE = 2;
const kept = new WeakMap();

export default function ({ data, parentElement }) {
  const button = kept.get(parentElement) ?? made(parentElement);
  button.lastChild.textContent = data.label;
  button.onclick = () => save(data, button);
  return () => {
    kept.delete(parentElement);
    button.remove();
  };
}

function made(parentElement) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "fd-picture";
  button.append(document.createElement("span"));
  parentElement.append(button);
  kept.set(parentElement, button);
  return button;
}

async function save(data, button) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(data.svg)}`;
  try {
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth * SCALE;
    canvas.height = picture.naturalHeight * SCALE;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const bytes = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(bytes);
    link.download = data.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch {
    button.lastChild.textContent = data.failed;
  }
}
