"""Allow-list of functions of ad-hoc SQL: each computes from its arguments alone.

Whatever is not here is refused. Those are functions that read files, servers, dictionaries, settings or the host's
name; that wait; or that take names of functions as text (`arrayReduce`). A function of a later engine is refused until
somebody has read what it does. Names are compared in lower case.
"""

from __future__ import annotations

import re


def _names(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


_OPERATORS = _names(
    """
    abs and array arrayElement assumeNotNull between caseWithExpression CASE clamp coalesce divide divideDecimal
    divideOrNull equals gcd greater greaterOrEquals greatest if ifNull ifNotFinite ilike in intDiv intDivOrNull
    intDivOrZero isDistinctFrom isFinite isInfinite isNaN isNotDistinctFrom isNotNull isNull isZeroOrNull lambda lcm
    least less lessOrEquals like max2 midpoint min2 minus mod modulo moduloOrNull moduloOrZero multiIf multiply
    multiplyDecimal negate not notEquals notILike notIn notLike notNullIn nullIf nullIn or plus positiveModulo pmod
    sign toNullable tuple tupleElement xor globalIn globalNotIn exists
    """
)
_NUMBERS = _names(
    """
    acos acosh asin asinh atan atan2 atanh bar bitAnd bitCount bitNot bitOr bitShiftLeft bitShiftRight bitTest
    bitXor cbrt ceil ceiling cos cosh countDigits degrees e exp exp10 exp2 factorial floor formatReadableDecimalSize
    formatReadableQuantity formatReadableSize formatReadableTimeDelta hypot intExp10 intExp2 ln log log10 log1p log2
    pi pow power radians round roundBankers roundDown sigmoid sin sinh sqrt tan tanh trunc truncate widthBucket
    width_bucket cityHash64 sipHash64 xxHash64 intHash64 rand rand64 randCanonical
    """
)
_TEXTS = _names(
    """
    alphaTokens appendTrailingCharIfAbsent ascii base64Decode base64Encode char CHAR_LENGTH CHARACTER_LENGTH concat
    concatWithSeparator concat_ws countMatches countSubstrings countSubstringsCaseInsensitive
    damerauLevenshteinDistance editDistance empty endsWith extract extractAll format hex initcap isValidUTF8
    jaroWinklerSimilarity lcase left leftPad leftPadUTF8 leftUTF8 length lengthUTF8 levenshteinDistance locate lower
    lowerUTF8 lpad ltrim match mid notEmpty position positionCaseInsensitive positionCaseInsensitiveUTF8
    positionUTF8 printf regexpExtract regexpQuoteMeta repeat replace replaceAll replaceOne replaceRegexpAll
    replaceRegexpOne reverse reverseUTF8 right rightPad rightPadUTF8 rightUTF8 rpad rtrim space splitByChar
    splitByNonAlpha splitByString splitByWhitespace startsWith substr substring substringIndex substringUTF8
    toValidUTF8 translate translateUTF8 trim trimBoth trimLeft trimRight ucase unhex upper upperUTF8
    arrayStringConcat array_to_string instr notMatch
    """
)
_TIMES = _names(
    """
    addDays addHours addInterval addMicroseconds addMilliseconds addMinutes addMonths addQuarters addSeconds
    addWeeks addYears age curdate current_date current_timestamp dateDiff date_diff dateName dateTrunc date_trunc
    date_bin DATE_FORMAT formatDateTime fromUnixTimestamp fromUnixTimestamp64Micro fromUnixTimestamp64Milli
    fromUnixTimestamp64Nano fromUnixTimestamp64Second last_day makeDate makeDate32 makeDateTime makeDateTime64
    monthName now now64 parseDateTime parseDateTimeBestEffort parseDateTimeBestEffortOrNull
    parseDateTimeBestEffortOrZero parseDateTime64BestEffort parseDateTime64BestEffortOrNull
    parseDateTime64BestEffortOrZero subtractDays subtractHours subtractMinutes subtractMonths subtractQuarters
    subtractSeconds subtractWeeks subtractYears subtractInterval subtractMilliseconds timeDiff timeSlot timeSlots
    toDayOfMonth toDayOfWeek toDayOfYear toDaysInMonth toHour toISOWeek toISOYear toLastDayOfMonth toLastDayOfWeek
    toMillisecond toMinute toMonday toMonth toQuarter toRelativeDayNum toRelativeHourNum toRelativeMinuteNum
    toRelativeMonthNum toRelativeSecondNum toSecond toStartOfDay toStartOfFifteenMinutes toStartOfFiveMinute
    toStartOfFiveMinutes toStartOfHour toStartOfInterval toStartOfMinute toStartOfMonth toStartOfQuarter
    toStartOfSecond toStartOfTenMinutes toStartOfWeek toStartOfYear toTimeZone toTimezone toUnixTimestamp
    toUnixTimestamp64Micro toUnixTimestamp64Milli toUnixTimestamp64Nano toUnixTimestamp64Second toWeek toYYYYMM
    toYYYYMMDD toYYYYMMDDhhmmss toYear toYearWeek today yesterday year month day hour minute second quarter tumble
    tumbleStart tumbleEnd timestamp_diff time_bucket
    """
)
_CONVERSIONS = frozenset(
    f"to{type_}{on_error}".lower()
    for type_ in (
        *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)),
        "Float32", "Float64", "Decimal32", "Decimal64", "Decimal128", "Decimal256", "Date", "Date32", "DateTime",
        "DateTime64", "UUID", "IPv4", "IPv6",
    )
    for on_error in ("", "OrNull", "OrZero", "OrDefault")
) | _names(
    """
    CAST _CAST accurateCast accurateCastOrDefault accurateCastOrNull toBool toDateTime32 toDecimalString
    toFixedString toInterval toIntervalDay toIntervalHour toIntervalMicrosecond toIntervalMillisecond
    toIntervalMinute toIntervalMonth toIntervalQuarter toIntervalSecond toIntervalWeek toIntervalYear toJSONString
    toLowCardinality toString toTypeName materialize identity transform
    """
)  # fmt: skip
_COLLECTIONS = _names(
    """
    arrayAll arrayAvg arrayCompact arrayConcat arrayCount arrayCumSum arrayCumSumNonNegative arrayDifference
    arrayDistinct arrayDotProduct arrayElementOrNull arrayEnumerate arrayEnumerateDense arrayEnumerateUniq
    arrayExists arrayExcept arrayFill arrayFilter arrayFirst arrayFirstIndex arrayFirstOrNull arrayFlatten arrayFold
    arrayIntersect arrayJoin arrayLast arrayLastIndex arrayMap arrayMax arrayMin arrayPartialSort arrayPopBack
    arrayPopFront arrayProduct arrayPushBack arrayPushFront arrayResize arrayReverse arrayReverseSort
    arrayRotateLeft arrayRotateRight arrayShuffle arraySlice arraySort arraySplit arraySum arrayUniq arrayUnion
    arrayWithConstant arrayZip countEqual emptyArrayString emptyArrayUInt64 flatten has hasAll hasAny indexOf range
    unnest map mapAdd mapAll mapApply mapConcat mapContains mapContainsKey mapContainsKeyLike mapContainsValue
    mapExists mapExtractKeyLike mapFilter mapFromArrays mapKeys mapPopulateSeries mapReverseSort mapSort mapSubtract
    mapUpdate mapValues tupleConcat tupleDivide tupleMinus tupleMultiply tupleNames tuplePlus dotProduct untuple
    """
)
_PATHS = _names(
    """
    JSONExtract JSONExtractArrayRaw JSONExtractBool JSONExtractFloat JSONExtractInt JSONExtractKeys
    JSONExtractKeysAndValues JSONExtractRaw JSONExtractString JSONExtractUInt JSONHas JSONLength JSONType
    isValidJSON domain domainWithoutWWW path protocol topLevelDomain cutQueryString
    """
)
_WINDOWS = _names(
    """
    cume_dist dense_rank denseRank first_value lag lagInFrame last_value lead leadInFrame nth_value ntile
    percent_rank percentRank rank row_number exponentialMovingAverage exponentialTimeDecayedAvg
    nonNegativeDerivative grouping __groupingForCube __groupingForGroupingSets __groupingForRollup
    __groupingOrdinary rowNumberInAllBlocks
    """
)
_AGGREGATES = _names(
    """
    any any_value anyHeavy anyLast argMax argMin array_agg avg avgWeighted boundingRatio corr count covarPop
    covarSamp deltaSum deltaSumTimestamp entropy groupArray groupArrayInsertAt groupArrayLast groupArrayMovingAvg
    groupArrayMovingSum groupArraySample groupArraySorted groupBitAnd groupBitOr groupBitXor groupConcat
    groupUniqArray histogram intervalLengthSum kurtPop kurtSamp largestTriangleThreeBuckets max max_by
    maxIntersections maxIntersectionsPosition maxMap median medianExact medianTDigest min min_by minMap quantile
    quantileBFloat16 quantileDD quantileDeterministic quantileExact quantileExactExclusive quantileExactHigh
    quantileExactInclusive quantileExactLow quantileExactWeighted quantileGK quantileInterpolatedWeighted
    quantileTDigest quantileTDigestWeighted quantileTiming quantileTimingWeighted quantiles quantilesExact
    quantilesExactExclusive quantilesExactInclusive quantilesExactWeighted quantilesTDigest quantilesTiming
    retention simpleLinearRegression singleValueOrNull skewPop skewSamp sparkbar stddev_pop stddev_samp stddevPop
    stddevPopStable stddevSamp stddevSampStable string_agg sum sumCount sumKahan sumMap sumMappedArrays
    sumWithOverflow topK topKWeighted uniq uniqCombined uniqCombined64 uniqExact uniqHLL12 uniqUpTo var_pop var_samp
    varPop varSamp windowFunnel
    """
)
_COMBINATOR = re.compile(r"(if|array|map|distinct|ornull|ordefault|foreach|argmin|argmax)$")

ALLOWED_FUNCTIONS = (
    _OPERATORS | _NUMBERS | _TEXTS | _TIMES | _CONVERSIONS | _COLLECTIONS | _PATHS | _WINDOWS | _AGGREGATES
)
ALLOWED_TABLE_FUNCTIONS = _names("generateSeries generate_series null numbers numbers_mt values zeros zeros_mt")
"""Table functions that read only their arguments."""


def is_allowed_function(name: str) -> bool:
    """Return whether a function, or an aggregate function with combinators (`sumIf`), computes from its arguments."""
    lower = name.lower()
    if lower in ALLOWED_FUNCTIONS:
        return True
    while match := _COMBINATOR.search(lower):
        lower = lower[: match.start()]
        if lower in _AGGREGATES:
            return True
    return False


def is_allowed_table_function(name: str) -> bool:
    """Return whether a table function reads only its arguments."""
    return name.lower() in ALLOWED_TABLE_FUNCTIONS
