// The recording's sound and the playback position. Seeking also works without sound (if the browser
// cannot play the container, or has not loaded it yet).

const STEP_S = 5;
const PAGE_S = 30;
/** Controls that handle the space bar themselves. */
const CONTROLS = "button, input, select, textarea, a, summary, [role=region]";

export class Player {
  #audio;
  #slider;
  #button;
  #onMove;
  #seconds = 0;
  #hasSound = false;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /** `onMove` gets each new position; `onTrouble` is called if the sound cannot be played. */
  constructor({ audio, slider, button, onMove, onTrouble }) {
    this.#audio = audio;
    this.#slider = slider;
    this.#button = button;
    this.#onMove = onMove;
    button.addEventListener("click", () => this.toggle());
    slider.addEventListener("input", () => this.seek(Number(slider.value)));
    slider.addEventListener("keydown", (press) => this.#arrow(press));
    document.addEventListener("keydown", (press) => {
      if (press.key === " " && !press.target.closest(CONTROLS) && this.#hasSound) {
        press.preventDefault();
        this.toggle();
      }
    });
    for (const name of ["play", "pause", "ended"]) {
      audio.addEventListener(name, () => this.#tell());
    }
    audio.addEventListener("timeupdate", () => this.#moved(audio.currentTime));
    audio.addEventListener("loadedmetadata", () => {
      this.#hasSound = true;
      button.disabled = false;
      audio.currentTime = this.#seconds;
    });
    audio.addEventListener("error", () => {
      this.#hasSound = false;
      button.disabled = true;
      onTrouble();
    });
  }

  set duration(seconds) {
    this.#slider.max = Math.ceil(seconds * 10) / 10;
    this.#moved(this.#seconds);
  }

  get position() {
    return this.#seconds;
  }

  set sound(url) {
    this.#audio.src = url;
  }

  seek(seconds) {
    const within = Math.min(Math.max(seconds, 0), Number(this.#slider.max));
    if (this.#hasSound) this.#audio.currentTime = within;
    this.#moved(within);
  }

  toggle() {
    if (!this.#audio.paused) this.#audio.pause();
    else this.#audio.play().catch(() => this.#tell());
  }

  #arrow(press) {
    const by = {
      ArrowLeft: -STEP_S, ArrowDown: -STEP_S, ArrowRight: STEP_S, ArrowUp: STEP_S,
      PageDown: -PAGE_S, PageUp: PAGE_S,
    }[press.key];
    if (by === undefined || press.ctrlKey || press.altKey || press.metaKey) return;
    press.preventDefault();
    this.seek(this.#seconds + by);
  }

  #moved(seconds) {
    this.#seconds = seconds;
    this.#slider.value = seconds;
    this.#onMove(seconds);
  }

  #tell() {
    const playing = !this.#audio.paused;
    this.#button.textContent = playing ? "Pause" : "Play";
    // Move smoothly unless reduced motion is preferred; timeupdate fires only four times a second.
    if (playing && !this.#still.matches) requestAnimationFrame(() => this.#follow());
  }

  #follow() {
    if (this.#audio.paused) return;
    this.#moved(this.#audio.currentTime);
    requestAnimationFrame(() => this.#follow());
  }
}
