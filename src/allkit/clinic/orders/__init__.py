"""Orders of laboratory systems: HL7 ORM^O01 and OML^O21, FHIR ServiceRequest.

parsing      any message to orders
hl7_orders   the orders of an HL7 message
fhir_orders  the orders of a FHIR resource
segments     an HL7 message in its parts
kinds        whether a file is a message with orders
checks       what any kept value has to fulfil; kinds of specimen; dates
answering    the acknowledgement of an HL7 message
"""

from allkit.clinic.orders.answering import acknowledge
from allkit.clinic.orders.parsing import parse_orders

__all__ = ["acknowledge", "parse_orders"]
