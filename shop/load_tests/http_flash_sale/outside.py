"""A flash sale on a shop that is served elsewhere: judged by what customers are told and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory.experiments.flash_sale.buyers import Outcome
from inventory.experiments.flash_sale.sale import reported_by_buyers, units_bought
from inventory.experiments.models import FlashSaleResult
from inventory.words import counted
from shop.load_tests.http_flash_sale import target
from shop.load_tests.http_flash_sale.sale import Crowd

WHAT_COULD_BE_CHECKED = (
    "Seen from outside: sold is what buyers were shown as paid, stock left is what the product's "
    "page says, oversold and drift compare the two with what it said before. Other customers and "
    "deliveries count as drift; what is in baskets isn't seen. The shop's own database knows more: "
    "manage.py check_stock."
)


@dataclass(frozen=True)
class Visit:
    """What came of it."""

    host: str
    product: str
    crowd: Crowd
    shown_before: int
    """Units that the product's page had said anybody may take."""
    result: FlashSaleResult
    """Not stored: it isn't about a product of ours."""
    served: int
    """Buyers of whom it is known how it went for them; the others were called back."""

    @property
    def is_bad(self) -> bool:
        """Whether more was sold than was there, or a buyer failed or was wrongly refused."""
        result = self.result
        return bool(result.oversold or result.failed or result.falsely_refused)

    @property
    def is_broken_off(self) -> bool:
        return self.served < self.crowd.buyers


def units_before(host: str, product: str, *, own: bool) -> int:
    """Units that the product's page says there are, at a shop that may be driven.

    Raises WrongTarget.
    """
    target.check(host, own=own)
    return target.units_shown(host, product)


def judge(host: str, product: str, crowd: Crowd, before: int, outcomes: Sequence[Outcome]) -> Visit:
    """Compare what buyers were told with the product's page, which had shown ``before`` units.

    Raises WrongTarget.
    """
    after = target.units_shown(host, product)
    sold = units_bought(outcomes)
    result = FlashSaleResult(
        strategy=product[:32],
        safe=False,  # which strategy it has, customers aren't told
        sold=sold,
        stock_left=after,
        oversold=max(0, sold - max(0, before)),
        drift=after + sold - before,
        **reported_by_buyers(outcomes, left=after),
    )
    visit = Visit(host, product, crowd, before, result, len(outcomes))
    result.verdict = _verdict(visit)
    return visit


def _verdict(visit: Visit) -> str:
    result, before = visit.result, visit.shown_before
    findings = []
    if result.oversold:
        findings.append(f"sold {result.sold}, and the page had shown {max(0, before)}")
    elif result.drift:
        findings.append(f"the page's count differs by {result.drift:+d}: others, or baskets left")
    if result.falsely_refused:
        refused = counted(result.falsely_refused, "buyer")
        findings.append(f"{refused} told “sold out” with {result.stock_left} left")
    if result.failed:
        findings.append(f"{counted(result.failed, 'buyer')} failed: {result.first_error}")
    return "; ".join(findings)[:300] or "as the page showed it"
