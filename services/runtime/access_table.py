"""Who may call each method, for callers known by certificate. What is not named is denied."""

from collections.abc import Mapping

from services.runtime.access import Role

_CANDIDATE = "/heliograph.candidate.v1alpha1.CandidateService/"
_SHARD = "/heliograph.candidate.v1alpha1.ShardService/"
_RANKER = "/heliograph.ranker.v1alpha1.RankerService/"
_POLICY = "/heliograph.policy.v1alpha1.PolicyService/"
_COPYGEN = "/heliograph.copygen.v1alpha1.CopygenService/"
_PACER = "/heliograph.pacer.v1alpha1.PacerService/"


def _table(*parts: tuple[str, Mapping[str, tuple[Role, ...]]]) -> dict[str, frozenset[Role]]:
    return {
        service + method: frozenset(roles)
        for service, methods in parts
        for method, roles in methods.items()
    }


METHODS: Mapping[str, frozenset[Role]] = _table(
    (
        _CANDIDATE,
        {
            "PutEventType": (Role.PRODUCER, Role.OPERATOR),
            "GetEventType": (Role.PRODUCER, Role.OPERATOR, Role.PACER, Role.POLICY, Role.COPYGEN),
            "ListEventTypes": (Role.PRODUCER, Role.OPERATOR, Role.PACER, Role.POLICY, Role.COPYGEN),
            "PublishEvents": (Role.PRODUCER,),
            "PublishEventStream": (Role.PRODUCER,),
            "UpsertUsers": (Role.PRODUCER, Role.APP),
            "UpsertItems": (Role.PRODUCER,),
            "SetAttributeType": (Role.RELEVANCE, Role.OPERATOR),
            "ListAttributeTypes": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "RecordInteractions": (Role.PRODUCER, Role.APP),
            "RecordRelations": (Role.PRODUCER, Role.APP),
            "RecommendUsersToItem": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "RecommendUsersToUser": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "RecommendItemsToUser": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR, Role.APP),
            "RecommendItemsToSegment": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "GetRecommendation": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "EstimateAudience": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "ReportExposure": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "PutScenario": (Role.RELEVANCE, Role.OPERATOR),
            "DeleteScenario": (Role.RELEVANCE, Role.OPERATOR),
            "ListScenarios": (Role.PRODUCER, Role.RELEVANCE, Role.OPERATOR),
            "LaunchCampaign": (Role.PRODUCER, Role.OPERATOR),
            "GetCampaign": (Role.PRODUCER, Role.OPERATOR),
            "CancelCampaign": (Role.PRODUCER, Role.OPERATOR),
            "PutTeamQuota": (Role.OPERATOR,),
            "ListTeamQuotas": (Role.PRODUCER, Role.OPERATOR),
            "CancelEvents": (Role.PRODUCER, Role.OPERATOR),
            "CheckEvents": (Role.PACER,),
            "GenerateDaily": (Role.OPERATOR,),
            "ReadArrivals": (Role.PACER,),
            "ReadPool": (Role.PACER,),
            "SettlePool": (Role.PACER,),
            "LeaseReady": (Role.PACER,),
            "SettleReady": (Role.PACER,),
            "ListUserEvents": (Role.OPERATOR,),
            "WatchItems": (Role.RANKER, Role.COPYGEN),
            "EraseUser": (Role.PACER,),
        },
    ),
    (
        _SHARD,
        {
            "GetShard": (Role.CANDIDATE, Role.OPERATOR),
            "CountItems": (Role.CANDIDATE,),
            "PutOtherCounts": (Role.CANDIDATE,),
            "SumItem": (Role.CANDIDATE,),
            "FindUsers": (Role.CANDIDATE,),
            "MeasureUsers": (Role.CANDIDATE,),
            "DescribeUser": (Role.CANDIDATE,),
            "MatchUsers": (Role.CANDIDATE,),
            "FindItems": (Role.CANDIDATE,),
            "SumGroup": (Role.CANDIDATE,),
            "FindGroupItems": (Role.CANDIDATE,),
            "RankEventItems": (Role.CANDIDATE,),
            "GenerateShard": (Role.CANDIDATE,),
        },
    ),
    (
        _RANKER,
        {
            "Rank": (Role.PACER,),
            "GetSnapshot": (Role.OPERATOR, Role.RELEVANCE),
            "ExportTrainingData": (Role.RELEVANCE,),
            "ListModels": (Role.RELEVANCE, Role.OPERATOR),
            "PromoteModel": (Role.RELEVANCE, Role.OPERATOR),
            "ShadowModel": (Role.RELEVANCE, Role.OPERATOR),
            "EraseUser": (Role.PACER,),
        },
    ),
    (
        _POLICY,
        {
            "UpsertRecipients": (Role.APP,),
            "PutPreferences": (Role.APP,),
            "Snooze": (Role.APP,),
            "GetUserContexts": (Role.PACER, Role.OPERATOR),
            "Decide": (Role.PACER,),
            "ReportEngagement": (Role.APP,),
            "ReportSessions": (Role.APP,),
            "LeaseDeliveries": (Role.PACER,),
            "AckDeliveries": (Role.PACER,),
            "ReadFeed": (Role.CANDIDATE, Role.RANKER, Role.COPYGEN),
            "SetTarget": (Role.OPERATOR,),
            "GetThresholds": (Role.OPERATOR, Role.RELEVANCE),
            "WatchVolume": (Role.OPERATOR, Role.RELEVANCE),
            "PutObjective": (Role.RELEVANCE, Role.OPERATOR),
            "ListObjectives": (Role.RELEVANCE, Role.OPERATOR),
            "ExplainDecision": (Role.OPERATOR, Role.RELEVANCE),
            "ListDecisions": (Role.OPERATOR, Role.RELEVANCE),
            "PutExperiment": (Role.RELEVANCE, Role.OPERATOR),
            "ListExperiments": (Role.RELEVANCE, Role.OPERATOR),
            "Pause": (Role.OPERATOR,),
            "Resume": (Role.OPERATOR,),
            "ListPauses": (Role.OPERATOR,),
            "StreamSendability": (Role.CANDIDATE,),
            "EraseUser": (Role.PACER,),
        },
    ),
    (
        _COPYGEN,
        {
            "PickVariants": (Role.PACER,),
            "Generate": (Role.OPERATOR, Role.PRODUCER),
            "ScoreTexts": (Role.RELEVANCE, Role.OPERATOR),
            "PutVariant": (Role.PRODUCER, Role.OPERATOR),
            "ListVariants": (Role.PRODUCER, Role.OPERATOR, Role.RELEVANCE),
            "ApproveVariant": (Role.OPERATOR, Role.PRODUCER),
            "BlockVariant": (Role.OPERATOR, Role.PRODUCER),
            "ListChoices": (Role.OPERATOR, Role.RELEVANCE),
            "EraseUser": (Role.PACER,),
        },
    ),
    (
        _PACER,
        {
            "ProcessUsers": (Role.OPERATOR,),
            "GetBacklog": (Role.OPERATOR,),
            "PreviewEvent": (Role.PRODUCER, Role.OPERATOR),
            "ForgetUser": (Role.OPERATOR, Role.APP),
            "ReadInbox": (Role.APP, Role.OPERATOR),
            "ListSlots": (Role.OPERATOR,),
            "ListAttempts": (Role.OPERATOR,),
        },
    ),
)
"""Roles by full method name."""
