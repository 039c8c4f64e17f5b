"""Ready mappings of XML that many publish and each spells in a way of its own.

Price transparency: Israel's food retailers publish, by law, files ``PriceFull*``, ``PromoFull*``
and ``Stores*``. The names of tags follow the regulation loosely: upper and lower case differ, some
are misspelt, the record is an Item here and a Product there, and a chain's number may stand above
the records or in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Feed:
    """Names are in lower case and without prefixes; the first that is there counts."""

    records: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


_WHERE = {
    "chain_id": ("chainid",),
    "sub_chain_id": ("subchainid",),
    "store_id": ("storeid",),
}

FEEDS: dict[str, Feed] = {
    "prices": Feed(
        records=("item", "product"),
        columns={
            **_WHERE,
            "item_code": ("itemcode", "itembarcode", "barcode"),
            "item_type": ("itemtype",),
            "item_name": ("itemname", "itemnm"),
            "manufacturer_name": ("manufacturername", "manufacturename"),
            "manufacture_country": ("manufacturecountry", "manufacturercountry"),
            "item_description": ("manufactureritemdescription", "manufactureitemdescription"),
            "unit_quantity": ("unitqty",),
            "quantity": ("quantity",),
            "unit_of_measure": ("unitofmeasure", "unitmeasure"),
            "is_weighted": ("bisweighted", "blsweighted", "isweighted"),
            "quantity_in_package": ("qtyinpackage",),
            "price": ("itemprice",),
            "price_of_unit": ("unitofmeasureprice",),
            "allow_discount": ("allowdiscount",),
            "item_status": ("itemstatus",),
            "updated_at": ("priceupdatedate", "priceupdatetime", "lastupdatedate"),
        },
    ),
    "promos": Feed(
        records=("promotion", "sale"),
        columns={
            **_WHERE,
            "promotion_id": ("promotionid",),
            "description": ("promotiondescription",),
            "updated_at": ("promotionupdatedate", "promotionupdatetime", "priceupdatedate"),
            "start_date": ("promotionstartdate", "promotionstartdatetime"),
            "start_hour": ("promotionstarthour",),
            "end_date": ("promotionenddate", "promotionenddatetime"),
            "end_hour": ("promotionendhour",),
            "reward_type": ("rewardtype",),
            "allow_multiple_discounts": ("allowmultiplediscounts",),
            "min_quantity": ("minqty",),
            "max_quantity": ("maxqty",),
            "discount_rate": ("discountrate",),
            "discount_type": ("discounttype",),
            "discounted_price": ("discountedprice",),
            "min_purchase": ("minpurchaseamnt", "minpurchaseamount"),
            "min_items_offered": ("minnoofitemofered", "minnoofitemsoffered", "minnoofitemoffered"),
            "clubs": ("clubs", "clubid"),
            "items": ("promotionitems", "groups", "itemcode"),
            "remarks": ("remarks", "remark"),
        },
    ),
    "stores": Feed(
        records=("store", "branch"),
        columns={
            "chain_id": ("chainid",),
            "chain_name": ("chainname",),
            "sub_chain_id": ("subchainid",),
            "sub_chain_name": ("subchainname",),
            "store_id": ("storeid",),
            "store_type": ("storetype",),
            "store_name": ("storename",),
            "address": ("address",),
            "city": ("city",),
            "zip_code": ("zipcode",),
        },
    ),
}
