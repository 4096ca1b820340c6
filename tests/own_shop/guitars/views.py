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
    except InventoryError as refused:
        return HttpResponse(str(refused), status=409)
    # The payment comes here; the unit is held meanwhile, and nothing else is.
    confirm(hold.pk)
    return HttpResponse("It is yours.")
