"""What a page's computed styles say of its text and of what can be pressed."""

from __future__ import annotations

CONTRAST = """() => {
  const colour = text => {
    const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
    probe.fillStyle = text; probe.fillRect(0, 0, 1, 1)
    const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data
    return a ? [r, g, b, a / 255] : [0, 0, 0, 0]
  }
  const seen = new Map()
  const read = text => seen.get(text) ?? seen.set(text, colour(text)).get(text)
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1)
  const behind = element => {
    const layers = []
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one)
      if (style.backgroundImage !== 'none') return null
      const own = read(style.backgroundColor)
      if (own[3]) layers.push(own)
      if (own[3] === 1) break
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1])
  }
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0)
  const found = new Map()
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim()
    if (!text || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue
    if (element.closest(':disabled, [aria-disabled=true], [disabled], svg, [data-testid=stTooltipContent], script, style, [aria-hidden=true]')) continue
    if (!element.getClientRects().length) continue
    if (element.closest('label')?.querySelector(':disabled') || element.closest('[data-baseweb]')?.querySelector(':disabled')) continue
    let opacity = 1
    for (let one = element; one; one = one.parentElement) opacity *= +getComputedStyle(one).opacity
    const below = behind(element.closest('[data-testid=stSliderThumbValue]')?.closest('[data-testid=stSlider]') ?? element)
    if (!below) continue
    const ink = read(getComputedStyle(element).color)
    const seenInk = over([ink[0], ink[1], ink[2], ink[3] * opacity], below)
    const [high, low] = [light(seenInk), light(below)].sort((a, b) => b - a)
    const ratio = (high + .05) / (low + .05)
    if (ratio < 4.495) {
      const where = element.closest('[data-testid]')?.dataset.testid ?? ''
      const key = `${ratio.toFixed(2)} ${where}`
      if (!found.has(key)) found.set(key, `${key}: ${text.slice(0, 50)} [${getComputedStyle(element).color} on ${below.slice(0, 3).map(Math.round)}]`)
    }
  }
  return [...found.values()]
}"""
"""Text under 4.5:1 on what is behind it; what is disabled, or lies on a picture, is left out."""

SMALL = """() => [...document.querySelectorAll('#stMain :is(button, a[href], input[type=checkbox], [role=tab], [role=radio], [role=checkbox], [role=switch], summary), [data-testid=stHeader] :is(a, button)')]
  .filter(element => element.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !element.disabled)
  .filter(element => !element.closest('p, li, td, [aria-hidden=true]'))
  .map(element => [element, (element.matches('input') && element.closest('label') || element).getBoundingClientRect()])
  .filter(([element, box]) => box.width && (box.width < 24 || box.height < 24))
  .map(([element, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${element.tagName} ${element.dataset.testid ?? ''} ${(element.ariaLabel ?? element.textContent).slice(0, 40)}`)"""
"""What can be pressed and is smaller than 24 px; links within a sentence are not meant, and a switch is as
large as its label."""
