"""What the browser runs so that a popover which the keyboard opens takes the focus, and gives it back when Escape closes it.

Streamlit draws what is inside at the end of the page and leaves the focus on the button, so the next Tab would go past it.
"""

from __future__ import annotations

POPOVER_SCRIPT = """
if (!window.flightdeckPopovers) {
  window.flightdeckPopovers = true
  let opener = null
  const inside = () => [...document.querySelectorAll('[data-testid="stPopoverBody"] :is(a[href], button, input, textarea, select, [tabindex="0"])')]
  const near = (event, id) => event.target.closest && event.target.closest('[data-testid="' + id + '"]')
  document.addEventListener("keydown", event => {
    const button = near(event, "stPopoverButton")
    if (button && (event.key === "Enter" || event.key === " ") && !inside().length) {
      opener = button
      const enter = () => {
        const first = inside().find(one => !one.disabled && one.tabIndex >= 0 && one.getBoundingClientRect().width)
        if (!first) return
        watch.disconnect()
        first.focus()
      }
      const watch = new MutationObserver(enter)
      watch.observe(document.body, { childList: true, subtree: true })
      setTimeout(() => watch.disconnect(), 5000)
    } else if (event.key === "Escape" && near(event, "stPopoverBody")) {
      setTimeout(() => opener && opener.isConnected && opener.focus())
    }
  }, true)
}
"""
"""Runs behind the script of the page's language: the content security policy knows both together by their hash."""
