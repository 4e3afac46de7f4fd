"""Any message of a laboratory system to the orders in it."""

from __future__ import annotations

from allkit.clinic.orders.fhir_orders import orders_of_resource
from allkit.clinic.orders.hl7_orders import orders_of_message
from allkit.clinic.orders.kinds import MAX_ORDER_BYTES, json_resource, kind_of_message
from allkit.clinic.orders.segments import split_message
from allkit.clinic.records import Order
from allkit.errors import OrderError

__all__ = ["parse_orders"]


MAX_ORDERS = 100
"""Most orders of one message."""


def parse_orders(data: bytes) -> tuple[Order, ...]:
    """Return the orders in one message, one or more, in its sequence: all of them or none.

    `data` is an HL7 v2 message (ORM^O01 or OML^O21 of 2.3 to 2.5.1, also in an MLLP frame) or FHIR R4 as
    JSON (a ServiceRequest, or a Bundle with Patient and Specimen). Names, birth dates, addresses and free
    texts are not kept; `Order.dropped` names where they stood. Identifiers are kept as they are, whatever
    characters they have: they are texts, and whoever shows them has to escape them. Raises `OrderError`,
    which names the part of the message and quotes nothing of it.
    """
    if len(data) > MAX_ORDER_BYTES:
        raise OrderError(
            f"The message has {len(data):,} bytes; at most {MAX_ORDER_BYTES:,} are taken. Send each "
            "order in a message of its own, without attachments."
        )
    kind = kind_of_message(data)
    if kind == "hl7":
        return _each_once(orders_of_message(split_message(data)))
    resource = json_resource(data) if kind == "fhir" else None
    if resource is not None:
        return _each_once(orders_of_resource(resource))
    raise OrderError(
        "The message is no order: it begins with no MSH segment and is no FHIR resource in JSON. Send "
        "ORM^O01, OML^O21 or a ServiceRequest."
    )


def _each_once(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    if len(orders) > MAX_ORDERS:
        raise OrderError(
            f"The message holds {len(orders):,} orders; at most {MAX_ORDERS} are taken. Divide it."
        )
    if len({order.number for order in orders}) < len(orders):
        raise OrderError(
            "The message names one order number twice. Send one order for each specimen, with a "
            "number of its own."
        )
    return orders
