"""Tries the shop in a real Chromium: `python -m tests.shop_browser ADDRESS [FOLDER]`, with a folder for screenshots.

It waits only for what lasts: a sofa is made for ten minutes, so that "working" stays until it is cancelled; the ends of
orders stay for good. What a page may miss, the single steps of a quick order, it does not ask for.
"""

import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START = time.monotonic()
PATIENCE = 90_000.0  # milliseconds
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1100, "height": 900}


def order(page: Page, product: str, address: str) -> Locator:
    """Order something, and return its place in the list."""
    page.get_by_label("Product").select_option(product)
    page.get_by_label("Address", exact=True).fill(address)
    orders = page.locator("#orders > li")
    before = orders.count()
    page.get_by_role("button", name="Order", exact=True).click()
    expect(orders).to_have_count(before + 1)
    return page.locator(f"#orders > li:nth-last-child({before + 1})")


def ends(item: Locator, state: str, text: str) -> None:
    expect(item).to_have_attribute("data-state", state)
    expect(item.get_by_role("status")).to_contain_text(text)
    expect(item.get_by_role("button", name="Cancel")).to_be_hidden()


def done(item: Locator) -> float:
    return float(item.get_by_role("progressbar").evaluate("bar => bar.value"))


def an_order_is_delivered(page: Page) -> None:
    item = order(page, "mug", "1 Lovelace Street")
    ends(item, "delivered", "Delivered to 1 Lovelace Street.")
    assert done(item) == 4
    expect(item.locator(".steps .done")).to_have_count(4)


def an_order_that_waits_is_shown_and_can_be_cancelled(page: Page) -> None:
    item = order(page, "sofa", "2 Hopper Square")
    expect(item).to_have_attribute("data-state", "working")
    expect(item.get_by_role("status")).to_contain_text("Being made")
    assert done(item) == 1
    item.get_by_role("button", name="Cancel").click()
    ends(item, "cancelled", "Cancelled.")
    assert done(item) == 1


def a_retry_is_no_failure(page: Page) -> None:
    ends(order(page, "kite", "3 Hamilton Lane"), "delivered", "Delivered to 3 Hamilton Lane.")


def a_failed_order_is_corrected_and_sent_again(page: Page) -> None:
    item = order(page, "mug", "Nowhere")
    ends(item, "failed", "No house number in 'Nowhere'.")
    item.get_by_label("Corrected address").fill("4 Nowhere")
    item.get_by_role("button", name="Send again").click()
    expect(item.get_by_role("button", name="Send again")).to_be_hidden()
    expect(page.locator("#orders > li").first.locator(".address")).to_have_text("4 Nowhere")
    ends(page.locator("#orders > li").first, "delivered", "Delivered to 4 Nowhere.")


def it_fits(page: Page) -> None:
    wide, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window, f"{wide} pixels in a window of {window}"


WINDOWS = (
    (
        "phone",
        PHONE,
        (
            an_order_that_waits_is_shown_and_can_be_cancelled,
            a_failed_order_is_corrected_and_sent_again,
            a_retry_is_no_failure,
            an_order_is_delivered,
        ),
    ),
    ("desktop", DESKTOP, (an_order_is_delivered,)),
)


def try_all(browser: Browser, address: str, folder: Path | None) -> None:
    for name, size, scenarios in WINDOWS:
        page = browser.new_page(viewport=size)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE)
        problems: list[str] = []
        page.on("pageerror", lambda error, problems=problems: problems.append(str(error)))
        page.goto(address)
        expect(page.get_by_label("Product").locator("option")).to_have_count(3)
        for scenario in scenarios:
            scenario(page)
            say(f"{name}: {scenario.__name__}")
        it_fits(page)
        if folder:
            order(page, "sofa", "5 Wilson Road")
            expect(page.locator("#orders > li").first).to_have_attribute("data-state", "working")
            page.screenshot(path=folder / f"shop-{name}.png")
        assert problems == []
        page.close()


def say(text: str) -> None:
    sys.stdout.write(f"{time.monotonic() - START:.1f} s: {text}\n")
    sys.stdout.flush()


def main() -> None:
    address, *folder = sys.argv[1:]
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # It runs as root in containers, where its sandbox does not work, and shared memory is small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE)
        try_all(browser, address, Path(*folder) if folder else None)
        browser.close()
    say("All is well.")


if __name__ == "__main__":
    main()
