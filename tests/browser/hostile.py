"""What somebody might write, or get a model to write, to have a script run in another person's page.

Every line would set `window.__ran` or open a dialog if it ran, or leave something that runs at a click.
"""

LINES = [
    "<script>window.__ran = 1; alert(1)</script>",
    "<ScRiPt >window.__ran=1</sCrIpT >",
    "<scr<script>ipt>window.__ran=1</scr</script>ipt>",
    '"><script>window.__ran=1</script>',
    "</textarea></title></style><script>window.__ran=1</script>",
    "<img src=x onerror=window.__ran=1>",
    "<img src=x onerror='window.__ran=1' <b>",
    "<IMG SRC=/x ONERROR=&#119;indow.__ran=1>",
    "<svg onload=window.__ran=1>",
    "<svg><script>window.__ran=1</script></svg>",
    "<svg><animate onbegin=window.__ran=1 attributeName=x dur=1s></svg>",
    "<svg><a xlink:href=javascript:window.__ran=1><text y=20>click</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.__ran=1></style></mglyph></table></mtext></math>",
    "<details open ontoggle=window.__ran=1>open</details>",
    "<body onload=window.__ran=1>",
    "<input autofocus onfocus=window.__ran=1>",
    "<video><source onerror=window.__ran=1></video>",
    "<iframe srcdoc='<script>parent.__ran=1</script>'></iframe>",
    "<iframe src=javascript:parent.__ran=1></iframe>",
    "<object data=javascript:window.__ran=1></object>",
    "<embed src=javascript:window.__ran=1>",
    "<form action=javascript:window.__ran=1><button>go</button></form>",
    "<base href=//evil.invalid/>",
    "<meta http-equiv=refresh content='0;url=javascript:window.__ran=1'>",
    "<link rel=stylesheet href=//evil.invalid/x.css>",
    "<style>@import '//evil.invalid/x.css';</style>",
    "<div style=background:url(//evil.invalid/x)>styled</div>",
    "[click](javascript:window.__ran=1)",
    "[click](JaVaScRiPt:window.__ran=1)",
    "[click](&#106;avascript:window.__ran=1)",
    "[click](java&Tab;script:window.__ran=1)",
    "[click](%6aavascript:window.__ran=1)",
    "[click](<javascript:window.__ran=1>)",
    "[click](\x01javascript:window.__ran=1)",
    "[click](vbscript:window.__ran=1)",
    "[click](data:text/html,<script>opener.__ran=1</script>)",
    "[click](data:text/html;base64,PHNjcmlwdD5vcGVuZXIuX19yYW49MTwvc2NyaXB0Pg==)",
    "[click](blob:http://localhost/x)",
    "[click](file:///etc/passwd)",
    '[click](https://example.invalid/"onmouseover="window.__ran=1)',
    "[click](https://example.invalid 'a\" onmouseover=\"window.__ran=1')",
    "![x](javascript:window.__ran=1)",
    '![x](x"onerror="window.__ran=1)',
    "![x](https://evil.invalid/pixel.png)",
    "<javascript:window.__ran=1>",
    "<https://example.invalid/?q=<script>window.__ran=1</script>>",
    "`<script>window.__ran=1</script>`",
    "**<img src=x onerror=window.__ran=1>**",
    "| <img src=x onerror=window.__ran=1> | b |",
    "&lt;script&gt;window.__ran=1&lt;/script&gt;",
    "&#60;img src=x onerror=window.__ran=1&#62;",
    "{{constructor.constructor('window.__ran=1')()}}",
    "${window.__ran=1} #{window.__ran=1} <%= window.__ran=1 %>",
    "{{7*7}} {% raw %} [[${7*7}]]",
    "__proto__ constructor toString",
    "\u202egnp.exe \u2028 \u2029 \ufeff",
]

BLOCKS = """\
# <img src=x onerror=window.__ran=1>

> <script>window.__ran=1</script>

- [ ] <svg onload=window.__ran=1>
- [x] [click](javascript:window.__ran=1)

1. <iframe srcdoc="<script>parent.__ran=1</script>"></iframe>

| <script>window.__ran=1</script> | [a](javascript:window.__ran=1) |
| :-- | --: |
| <img src=x onerror=window.__ran=1> | ![x](data:image/svg+xml,<svg/onload=window.__ran=1>) |

```html"onmouseover="window.__ran=1
<script>window.__ran=1</script>
```

```javascript
</code></pre><img src=x onerror=window.__ran=1>
```

<div>

<script>window.__ran=1</script>

</div>

<!-- <img src=x onerror=window.__ran=1> --> <![CDATA[<script>window.__ran=1</script>]]>

[by reference][evil], ![image][evil], [evil]

[evil]: javascript:window.__ran=1 "title\\" onmouseover=\\"window.__ran=1"

javascript:window.__ran=1 www.example.invalid/<script>window.__ran=1</script>

```unclosed
<script>window.__ran=1</script>
"""
"""Markdown of many lines."""
