from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from guitars.models import Guitar
from inventory.exceptions import InventoryError
from inventory.reservations import confirm, reserve


@require_POST
def buy(request: HttpRequest, pk: int) -> HttpResponse:
    guitar = get_object_or_404(Guitar.objects.select_related("stock_item"), pk=pk)
    try:
        hold = reserve(
            guitar.stock_item,
            1,
            buyer=request.POST["buyer"],
            idempotency_key=request.POST["key"],
        )
        # Take the payment here. The unit is held, and nothing is locked.
        confirm(hold.pk)
    except InventoryError:  # if confirm raised it, give the money back
        return HttpResponse("You can't buy this guitar at the moment.", status=409)
    return HttpResponse("It is yours.")
