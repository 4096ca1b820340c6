"""A flash sale on a shop that is served already, judged by the pages that customers see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory.experiments.flash_sale.buyers import Outcome
from inventory.experiments.flash_sale.sale import fields_from_outcomes, units_bought
from inventory.experiments.models import FlashSaleResult
from inventory.words import counted
from shop.load_tests.http_flash_sale import target
from shop.load_tests.http_flash_sale.sale import Crowd

HOW_IT_WAS_CHECKED = (
    "Seen from outside: sold counts the orders shown as paid, and stock left is the number on the "
    "product's page. Oversold and drift compare the two with the number that the page showed "
    "before. Other customers and deliveries count as drift. Units in baskets can't be seen. The "
    "shop's own database knows more: manage.py check_stock."
)


@dataclass(frozen=True)
class Visit:
    """A visit of many buyers, and its outcome."""

    host: str
    product: str
    crowd: Crowd
    shown_before: int
    """Available units by the product's page, before the visit."""
    result: FlashSaleResult
    """It isn't stored, since it isn't about a product of ours."""
    served: int
    """Buyers with a known outcome; the others were called back."""

    @property
    def is_bad(self) -> bool:
        """Whether too much was sold, or a buyer failed or was wrongly refused."""
        result = self.result
        return bool(result.oversold or result.failed or result.falsely_refused)

    @property
    def is_broken_off(self) -> bool:
        return self.served < self.crowd.buyers


def units_before(host: str, product: str, *, own: bool) -> int:
    """Check that the shop may be driven; return the units that the product's page shows.

    Raises WrongTarget.
    """
    target.check(host, own=own)
    return target.units_shown(host, product)


def judge(host: str, product: str, crowd: Crowd, before: int, outcomes: Sequence[Outcome]) -> Visit:
    """Compare the outcomes with the product's page, which showed ``before`` units at first.

    Raises WrongTarget.
    """
    after = target.units_shown(host, product)
    sold = units_bought(outcomes)
    result = FlashSaleResult(
        strategy=product[:32],
        safe=False,  # customers don't see which strategy the product has
        sold=sold,
        stock_left=after,
        oversold=max(0, sold - max(0, before)),
        drift=after + sold - before,
        **fields_from_outcomes(outcomes, left=after),
    )
    visit = Visit(host, product, crowd, before, result, len(outcomes))
    result.verdict = _verdict(visit)
    return visit


def _verdict(visit: Visit) -> str:
    result, before = visit.result, visit.shown_before
    findings = []
    if result.oversold:
        findings.append(f"sold {result.sold}, but the page had shown {max(0, before)}")
    elif result.drift:
        findings.append(f"the page's count differs by {result.drift:+d}: others, or baskets left")
    if result.falsely_refused:
        refused = counted(result.falsely_refused, "buyer")
        findings.append(f"{refused} refused with {result.stock_left} left")
    if result.failed:
        findings.append(f"{counted(result.failed, 'buyer')} failed: {result.first_error}")
    return "; ".join(findings)[:300] or "as the page showed it"
