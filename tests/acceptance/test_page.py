"""The page in a real browser: upload through its file input, see progress, rows and failures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.harness import Running
from tests.pictures import picture

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page")]  # they share one page, which the last loads anew

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def page(app: Running) -> Iterator[Page]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, "the tests of the page need Chromium: apt-get install chromium"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        tab = browser.new_page()
        tab.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        tab.goto(app.url)
        yield tab
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "red.png").write_bytes(picture("red"))
    (folder / "blue.webp").write_bytes(picture("blue", "WEBP"))
    (folder / "broken.png").write_bytes(picture("green")[:150])
    (folder / "empty.png").write_bytes(b"")
    (folder / "large.png").write_bytes(b"x" * 10_500_000)
    (folder / "<b>bold.png").write_bytes(picture("black"))
    return folder


def card(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.locator("[data-state]", has_text=name).first


def test_pictures_are_uploaded_and_their_results_appear_without_a_reload(page: Page, files: Path) -> None:
    page.evaluate("window.sameDocument = true")
    page.set_input_files("#file-input", [files / "red.png", files / "blue.webp"])
    for name, colour in (("red.png", "red"), ("blue.webp", "blue")):
        expect(card(page, name)).to_have_attribute("data-state", "done", timeout=60_000)
        expect(card(page, name)).to_contain_text(colour)
        expect(card(page, name)).to_contain_text("pixels (built in)")
    assert page.evaluate("window.sameDocument"), "the page was loaded anew"


def test_progress_is_shown_while_a_picture_is_on_its_way(page: Page, files: Path) -> None:
    seen = page.evaluate("""() => new Promise((resolve) => {
        const states = new Set();
        const look = () => {
            for (const e of document.querySelectorAll('[data-state]')) {
                if (e.dataset.state === 'uploading' && e.querySelector('progress, [role=progressbar]'))
                    states.add('progress');
            }
            if (states.has('progress')) { observer.disconnect(); resolve(true); }
        };
        const observer = new MutationObserver(look);
        observer.observe(document.body, {subtree: true, childList: true, attributes: true});
        const list = new DataTransfer();
        const bytes = new Uint8Array(3_000_000);
        list.items.add(new File([bytes], 'slow.png', {type: 'image/png'}));
        const input = document.querySelector('#file-input');
        input.files = list.files;
        input.dispatchEvent(new Event('change', {bubbles: true}));
        setTimeout(() => resolve(false), 50000);
    })""")
    assert seen


@pytest.mark.parametrize(
    ("name", "words"), [("broken.png", "cannot read"), ("empty.png", "empty"), ("large.png", "larger")]
)
def test_a_bad_file_gets_a_clear_answer_on_the_page(page: Page, files: Path, name: str, words: str) -> None:
    page.set_input_files("#file-input", [files / name])
    expect(card(page, name)).to_have_attribute("data-state", "failed", timeout=60_000)
    expect(card(page, name)).to_contain_text(words, ignore_case=True)


def test_a_hostile_name_is_shown_as_text(page: Page, files: Path) -> None:
    page.set_input_files("#file-input", [files / "<b>bold.png"])
    expect(card(page, "bold.png")).to_have_attribute("data-state", "done", timeout=60_000)
    assert page.locator("b", has_text="bold.png").count() == 0


def test_what_was_classified_before_is_there_after_a_reload(page: Page) -> None:
    page.reload()
    expect(card(page, "red.png")).to_have_attribute("data-state", "done", timeout=60_000)
    expect(card(page, "broken.png")).to_have_attribute("data-state", "failed")
    page.set_viewport_size({"width": 1200, "height": 900})
    assert len(page.screenshot(full_page=True)) > 10_000
