"""After each test, money and goods agree, and no job is left to the next test."""

from tests.shop.orders.conftest import money_and_goods_agree_after_each_test

__all__ = ["money_and_goods_agree_after_each_test"]
