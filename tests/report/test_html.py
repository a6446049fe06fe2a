"""S6: a report is one inert file, whatever the names in it; and it says what the summary says."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.report.page import Page
from tests.report.samples import made_history, made_report, made_summary, picture
from vitrail.errors import StorageError
from vitrail.report import Example, Figure, ReportContent, write_report
from vitrail.report.text import visible

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</code></pre><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=alert(1)",
    " onload=alert(1) ",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//example.com/x.js",
    "https://example.com/x.png",
    "file:///etc/passwd",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mi//xlink:href='javascript:alert(1)'>",
    "<iframe src=javascript:alert(1)>",
    "<object data=x><embed src=x>",
    "<link rel=stylesheet href=//example.com>",
    "<base href=//example.com/>",
    "<meta http-equiv=refresh content='0;url=//example.com'>",
    "<style>*{display:none}</style>",
    "<form action=//example.com><input type=submit>",
    "<a href=javascript:alert(1)>x</a>",
    "<!-- -->",
    "<!--",
    "]]>",
    "<![CDATA[x]]>",
    "&lt;script&gt;&#60;script&#62;",
    "&quot; onx=1",
    "{{ 7 * 7 }}{% raw %}{{ self }}",
    "{{ ''.__class__.__mro__ }}",
    "$\\frac{1}{0}$ $x_1^$ \\input{x}",
    "%s %d {0} {title}",
    "=cmd|'/c calc'!A0",
    "../../../etc/passwd",
    "NUL\x00 BEL\x07 ESC\x1b[31mred",
    "line\nbreak\r\nand \u2028 separator",
    "\u202egnp.exe\u202c and \u2066isolate\u2069",
    "zero\u200bwidth\ufeff\u00ad",
    "\udcff\udc80 not unicode",
    "Z" + "\u0301" * 500 + "algo",
    "long " * 2000,
    "猫 القط חתול 🐈 \U0001f468\u200d\U0001f469\u200d\U0001f467 \ue000\U000e0041",
]


def test_there_are_50_hostile_names() -> None:
    assert len(set(HOSTILE)) == 50


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    write_report(path, made_report(HOSTILE, HOSTILE, images=300))
    return Page(path)


def assert_inert(page: Page) -> None:
    """Nothing in the page acts, and nothing is loaded."""
    allowed = (
        "html head meta title style body header main footer nav section svg rect picture source img"
        " p h1 h2 h3 ul li a div dl dt dd table caption thead tbody tr th td figure figcaption"
        " details summary pre code b bdi br span"
    )
    assert {tag for tag, _ in page.elements} <= set(allowed.split())
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"style", "action", "formaction", "data", "xlink:href", "background", "ping"}
    for name in ("src", "srcset"):
        assert all(re.match(r"data:image/[a-z+]+;base64,", each) for each in page.attributes(name))
    assert all(each.startswith("#") for each in page.attributes("href"))
    assert page.open == []


@pytest.mark.parametrize("kind", ["2", "26", "300"])
def test_reports_of_any_size_are_inert_and_small(kind: str, tmp_path: Path) -> None:
    classes = [f"class {i}" for i in range(int(kind))]
    path = tmp_path / "report.html"
    write_report(path, made_report(classes, images=900))
    assert_inert(Page(path))
    assert 50_000 < path.stat().st_size < 1_000_000


def test_s6_hostile_names_do_nothing(hostile: Page) -> None:
    assert_inert(hostile)


def test_s6_hostile_names_are_shown_as_text(hostile: Page) -> None:
    shown = set(hostile.texts["bdi"])
    for name in HOSTILE:
        assert visible(name, 80) in shown, name
    assert hostile.texts["title"] == [f"{HOSTILE[0]} · Vitrail report"]


def test_s6_nothing_unseen_is_in_the_file(hostile: Page) -> None:
    unseen = (
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ue000]"
    )
    assert re.search(unseen, hostile.source) is None
    assert r"\u202egnp.exe\u202c" in hostile.source


def test_the_policy_allows_this_style_and_pictures_only(hostile: Page) -> None:
    (policy,) = [
        each["content"]
        for each in hostile.tags("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = hostile.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert hostile.source.index("Content-Security-Policy") < hostile.source.index("<style")
    assert "url(" not in style and "@import" not in style


def test_a_reader_without_eyes_can_use_it(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", made_report([f"c{i}" for i in range(70)], images=300))
    page = Page(tmp_path / "report.html")
    assert all(each["alt"].strip() for each in page.tags("img"))
    assert all(each["scope"] in ("col", "row") for each in page.tags("th"))
    identifiers = page.attributes("id")
    assert len(set(identifiers)) == len(identifiers)
    assert {each.removeprefix("#") for each in page.attributes("href")} <= set(identifiers)
    assert set(page.attributes("aria-labelledby")) <= set(identifiers)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.tags("html") == [{"lang": "en"}]


def test_it_says_what_the_summary_says(tmp_path: Path) -> None:
    content = made_report(["cat", "dog", "owl"], images=200)
    write_report(tmp_path / "report.html", content)
    page = Page(tmp_path / "report.html")
    summary = content.summary
    text = " ".join(page.texts["div"])
    assert f"{summary.top1.value:.1%}" in text and f"{summary.ece.value:.1%}" in text
    assert f"{100 * summary.top1.low:.1f} – {summary.top1.high:.1%}" in text
    assert f"{summary.nll.value:.3f}" in text and "Top-5" not in text
    cells = [each for each in page.texts["td"] if each.isdigit()]
    for count in summary.confusion_matrix().ravel().tolist():
        assert str(count) in cells
    recalls = [each.recall for each in summary.per_class]
    order = [summary.classes[i] for i in np.argsort(recalls, kind="stable")]
    rows = page.source[page.source.index('id="classes"') :]
    assert sorted(order, key=lambda name: rows.index(f"<bdi>{name}</bdi>")) == order
    assert "2.71 M" in page.texts["bdi"] and "12 min 14 s" in page.texts["bdi"]
    assert "32 × 48" in page.texts["bdi"]


def test_classes_that_are_worse_than_chance_explains_are_marked(tmp_path: Path) -> None:
    summary = made_summary([f"c{i}" for i in range(4)], 400)
    bad = replace(summary.per_class[2], recall=0.05, correct=5)
    scores = (*summary.per_class[:2], bad, summary.per_class[3])
    content = made_report(summary=summary.replace(per_class=scores))
    write_report(tmp_path / "report.html", content)
    source = (tmp_path / "report.html").read_text()
    assert re.findall(r'<bdi>(\w+)</bdi><span class="tag">weak', source) == ["c2"]


def test_many_classes_are_folded(tmp_path: Path) -> None:
    content = made_report([f"c{i:04d}" for i in range(1200)], images=2400)
    write_report(tmp_path / "report.html", content)
    page = Page(tmp_path / "report.html")
    assert "970 more classes" in page.texts["summary"]
    assert any("200 classes with higher recall are left out" in each for each in page.texts["p"])
    assert any("summed into 100 blocks" in each for each in page.texts["p"])
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_only_the_summary_is_needed(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ReportContent(title="x", summary=made_summary("ab", 1)))
    page = Page(tmp_path / "report.html")
    assert_inert(page)
    assert not {"training", "mistakes", "right", "figures"} & set(page.attributes("id"))


def test_a_summary_without_intervals(tmp_path: Path) -> None:
    summary = made_summary("ab", 30)
    bare = summary.replace(
        resamples=0,
        unreadable=(),
        **{
            name: replace(getattr(summary, name), low=None, high=None)
            for name in ("top1", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")
        },
    )
    write_report(tmp_path / "report.html", ReportContent(title="x", summary=bare))
    assert "resamples" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    "history",
    [
        [{"step": 1, "train_loss": 2.0}],
        [{"step": 1, "train_loss": 0.0, "lr": 0.0}, {"step": 2, "val_top1": 0.0}],
        [{"step": 1, "train_loss": float("nan"), "lr": "x"}, {"train_loss": 1.0}, {"step": True}],
        [{"step": 5, "val_loss": 1e-9}, {"step": 3, "val_loss": 1e9}, {"step": 3, "val_loss": -1}],
        made_history(3000),
    ],
    ids=["one", "zeros", "broken", "extreme", "long"],
)
def test_any_history_can_be_drawn(history: list, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", made_report(history=history))
    page = Page(tmp_path / "report.html")
    assert_inert(page)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", made_report())
    write_report(tmp_path / "b.html", made_report())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_older_report_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    wrong = Figure(title="x", text="", image=np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"picture is uint8 \(4, 5\), not uint8 \[h, w, 3\]"):
        write_report(path, made_report(figures=[wrong]))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"report\.html: a part of this path is a file"):
        write_report(tmp_path / "file" / "reports" / "report.html", made_report())


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    noise = picture(1500, 2000)
    example = Example(
        key="x", true="cat", predicted="dog", probability=0.5, picture=noise, kind="wrong"
    )
    write_report(tmp_path / "report.html", made_report(examples=[example] * 4, figures=[]))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_matplotlib_is_loaded_only_when_a_report_is_written() -> None:
    code = "import sys, vitrail.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
