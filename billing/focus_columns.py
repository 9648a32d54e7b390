"""Columns of FOCUS files in the order of the specification, ours (`x_`) last.

Columns that may not be empty, and whose condition never holds here, are left out: BillingAccountType,
PaymentCurrency..., PricingCurrency, PricingCurrencyEffectiveCost, ContractCommitmentPaymentUpfrontPercentage.
"""

from __future__ import annotations

OWN = (
    "x_Category", "x_Cluster", "x_CorrectsLineId", "x_CostCentre", "x_EnergyJoules", "x_ExactCost", "x_GCO2eq",
    "x_Hardware", "x_LineId", "x_Model", "x_Quantity", "x_ServiceLevel", "x_Unit", "x_Workload", "x_WorkloadType",
)  # fmt: skip
"""Our columns of CostAndUsage."""

_BOTH = """
AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart
CapacityReservationId CapacityReservationStatus ChargeCategory ChargeClass ChargeDescription ChargeFrequency
ChargePeriodEnd ChargePeriodStart CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName
CommitmentDiscountQuantity CommitmentDiscountStatus CommitmentDiscountType CommitmentDiscountUnit ConsumedQuantity
ConsumedUnit ContractedCost ContractedUnitPrice EffectiveCost InvoiceId InvoiceIssuerName ListCost ListUnitPrice
PricingCategory PricingCurrencyContractedUnitPrice PricingCurrencyListUnitPrice PricingQuantity PricingUnit RegionId
RegionName ResourceId ResourceName ResourceType ServiceCategory ServiceName ServiceSubcategory SkuId SkuMeter
SkuPriceDetails SkuPriceId SubAccountId SubAccountName SubAccountType Tags
"""
_SINCE_1_3 = """
AllocatedMethodDetails AllocatedMethodId AllocatedResourceId AllocatedResourceName AllocatedTags
CommitmentProgramEligibilityDetails ContractApplied HostProviderName InvoiceDetailId ServiceProviderName
"""
COST_AND_USAGE = (*sorted((_BOTH + _SINCE_1_3).split()), *OWN)
"""CostAndUsage of FOCUS 1.4."""
COST_AND_USAGE_1_2 = (*sorted([*_BOTH.split(), "ProviderName", "PublisherName"]), *OWN)
"""The data set of FOCUS 1.2, which has one."""

BILLING_PERIOD = (
    "BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart",
    "BillingPeriodStatus", "InvoiceIssuerName",
)  # fmt: skip

_INVOICE_DETAIL = """
BilledCost BillingAccountId BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory InvoiceDetailCreated
InvoiceDetailDescription InvoiceDetailGrain InvoiceDetailId InvoiceDetailLastUpdated InvoiceId InvoiceIssueDate
InvoiceIssueStatus InvoiceIssuerName PaymentDueDate PaymentTerms PurchaseOrderNumber ReferenceInvoiceId
"""
INVOICE_DETAIL = tuple(_INVOICE_DETAIL.split())

_CONTRACT_COMMITMENT = """
BillingCurrency ContractCommitmentApplicability ContractCommitmentBenefitCategory ContractCommitmentCategory
ContractCommitmentCost ContractCommitmentCreated ContractCommitmentDescription ContractCommitmentDiscountPercentage
ContractCommitmentDurationType ContractCommitmentFulfillmentInterval ContractCommitmentId
ContractCommitmentLastUpdated ContractCommitmentLifecycleStatus ContractCommitmentModel
ContractCommitmentOfferCategory ContractCommitmentPaymentInterval ContractCommitmentPaymentModel
ContractCommitmentPeriodEnd ContractCommitmentPeriodStart ContractCommitmentQuantity ContractCommitmentType
ContractCommitmentUnit ContractId ContractPeriodEnd ContractPeriodStart InvoiceIssuerName
PricingCurrencyContractCommitmentCost ServiceProviderName
"""
CONTRACT_COMMITMENT = tuple(_CONTRACT_COMMITMENT.split())
