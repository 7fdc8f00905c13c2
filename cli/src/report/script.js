// Everything is there without this; it only points things out.
for (const section of document.querySelectorAll("section")) {
  const tell = section.querySelector(".tell");
  if (!tell) continue;
  const things = [...section.querySelectorAll("[data-tell]")];
  const names = [...section.querySelectorAll("[data-name]")];
  const light = (chosen) => {
    section.classList.toggle("pointing", chosen.length > 0);
    for (const thing of things) thing.classList.toggle("lit", chosen.includes(thing));
    for (const name of names) {
      const near = (thread) => [thread.dataset.from, thread.dataset.to].includes(name.dataset.name);
      name.classList.toggle("lit", chosen.some(near));
    }
  };
  const say = (text) => { tell.textContent = text || tell.dataset.idle; };
  const point = (thing) => { light([thing]); say(thing.dataset.tell); };
  const leave = () => { light([]); say(""); };
  for (const thing of things) {
    // What the line below says, a bubble need not say again.
    thing.removeAttribute("title");
    for (const kind of ["pointerenter", "focus", "click"]) thing.addEventListener(kind, () => point(thing));
    for (const kind of ["pointerleave", "blur"]) thing.addEventListener(kind, leave);
  }
  for (const name of names) {
    const own = things.filter((thing) => [thing.dataset.from, thing.dataset.to].includes(name.dataset.name));
    const show = () => { light(own); say(name.dataset.name + ": " + own.length + (own.length === 1 ? " thread" : " threads")); };
    for (const kind of ["pointerenter", "click"]) name.addEventListener(kind, show);
    name.addEventListener("pointerleave", leave);
  }
}
