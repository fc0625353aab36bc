"""Draw docs/pictures/session.png: the page of the demo recording's session.

    python -m deploy.docs.picture

Needs Chromium, as the tests of the pages do.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from services.cli.actions import demo
from services.processes.first_key import key_of
from tests.support import recordings
from tests.support.browser import chromium
from tests.support.folders import passable_folder
from tests.support.standalone import up

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "session.png"


def main() -> None:
    with passable_folder() as folder, up(folder / "home") as service:
        recording = folder / "street.flac"
        recordings.write(recording, recordings.encode(recordings.demo(demo.SEED)))
        service.listen()
        with service.client() as client:
            session = client.wait(client.upload(recording))
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1100, "height": 760})
            page.goto(f"{service.url}/sessions/{session.id}")
            page.get_by_label("API key").fill(key_of(service.home))
            page.keyboard.press("Enter")
            page.wait_for_load_state("networkidle")
            shown = page.screenshot()
    # A palette of 256 colours needs half the bytes.
    Image.open(BytesIO(shown)).quantize(256).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
