"""Looks at a page of `report` in Chromium: page.py CHROMIUM PAGE. Says what is wrong, and exits with 1."""

import sys

from playwright.sync_api import sync_playwright

chromium, path = sys.argv[1:]
wrong = []


def check(what, holds):
    if not holds:
        wrong.append(what)


def column(page, table, at):
    return table.locator(f"tbody tr > :nth-child({at})").all_inner_texts()


def sorts(page):
    table = page.locator("table", has=page.locator("caption", has_text="ag: accuracy"))
    button, head = table.locator("thead button").nth(1), table.locator("thead th").nth(1)
    button.click()
    check("a number sorts down first", head.get_attribute("aria-sort") == "descending")
    found = [float(text.split()[0]) for text in column(page, table, 2)]
    check(f"accuracies go down: {found}", found == sorted(found, reverse=True) and len(found) == 5)
    button.press("Enter")
    check("and up by the keyboard", head.get_attribute("aria-sort") == "ascending")
    found = [float(text.split()[0]) for text in column(page, table, 2)]
    check(f"accuracies go up: {found}", found == sorted(found))
    table.locator("thead button").nth(0).click()
    names = column(page, table, 1)
    check(f"names go up: {names}", names == sorted(names))
    check("one column is sorted", head.get_attribute("aria-sort") == "none")
    # Not told of every arm: what is empty comes last, both ways.
    for order in ["descending", "ascending"]:
        table.locator("thead button").nth(3).click()
        empty = [text.strip() == "" for text in column(page, table, 4)]
        check(f"empty cells last, {order}: {empty}", empty == sorted(empty) and any(empty))


def named(page):
    check("a language", page.locator("html").get_attribute("lang") == "en")
    check("one heading", page.locator("h1").count() == 1)
    check("plots are there", page.locator("svg").count() > 10)
    check("all plots are named", page.locator("svg:not([role=img][aria-label])").count() == 0)
    check("all tables are named", page.locator("table:not(:has(caption))").count() == 0)
    hostile = page.locator("th", has_text="<script>alert(1)</script>")
    check("names of classes are text", hostile.count() > 0)
    for link in page.locator("nav a").all():
        check(f"{link.inner_text()} leads nowhere", page.locator(link.get_attribute("href")).count() == 1)


def fits(page, width):
    """No part is wider than the page, but for what scrolls in its own box; letters of plots can be read."""
    size = page.evaluate("document.documentElement.scrollWidth")
    check(f"{size} wide at {width}", size <= width)
    least = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].filter(text => text.checkVisibility()).map("
        "text => parseFloat(text.getAttribute('font-size')) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b)))"
    )
    check(f"letters of {least} pixels at {width}", least > 9)
    cut = page.evaluate(
        "[...document.querySelectorAll('svg')].flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {"
        " const [a, b] = [svg.getBoundingClientRect(), text.getBoundingClientRect()];"
        " return b.width && (b.left < a.left - 1 || b.right > a.right + 1 || b.top < a.top - 1 || b.bottom > a.bottom + 1);"
        "}).map(text => svg.getAttribute('aria-label') + ': ' + text.textContent.trim()))"
    )
    check(f"letters cut at {width}: {cut}", not cut)


def contrast(page, scheme):
    """WCAG 2.1: text 4.5 to 1, colours of plots 3 to 1, against the ground."""
    found = page.evaluate(
        """() => {
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim();
        const part = (at) => {
          const x = parseInt(hex.slice(at, at + 2), 16) / 255;
          return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
        };
        return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
      };
      const names = ["--text", "--faint", "--link", "--warn", ...[0, 1, 2, 3, 4, 5, 6, 7].map((i) => `--c${i}`)];
      const ground = light("--ground");
      return names.map((name) => {
        const [a, b] = [light(name), ground].sort((a, b) => b - a);
        return [name, (a + 0.05) / (b + 0.05)];
      });
    }"""
    )
    for name, ratio in found:
        check(f"{name} {ratio:.2f} to 1, {scheme}", ratio >= (3 if name.startswith("--c") else 4.5))


with sync_playwright() as play:
    browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for width, scheme in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]:
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on("console", lambda message: check(f"console: {message.text}", False))
        page.on("pageerror", lambda error: check(f"error: {error}", False))
        page.on("request", lambda request: check(request.url, request.url.startswith(("file:", "data:"))))
        page.on("dialog", lambda dialog: (check(f"dialog: {dialog.message}", False), dialog.dismiss()))
        page.goto(f"file://{path}")
        fits(page, width)
        # All that is folded away, too.
        page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
        fits(page, width)
        contrast(page, scheme)
        named(page)
        sorts(page)
        page.close()
    browser.close()
print("\n".join(sorted(set(wrong))))
sys.exit(bool(wrong))
