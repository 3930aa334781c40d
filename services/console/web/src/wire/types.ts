/** The API as proto3 JSON says it: lowerCamel, int64 as strings, absent where a field has its default value. */

export type Tier = "premium" | "standard" | "slm";

// soma.common.v1

export interface Candidate {
  provider?: string;
  model?: string;
  tier?: Tier;
  /** Why it could not be chosen, in one sentence. Absent: it was open. */
  closed?: string;
  /** The expected quality less what cost and wait weigh: larger is better. Of open ones. */
  score?: number;
  costMicrousd?: string;
  latencyMs?: number;
  /** That its answer is expected to have: 0 to 1. */
  quality?: number;
  /** With which it was chosen. 0 outside the first open tier. */
  probability?: number;
}

export interface Decision {
  id?: string;
  provider?: string;
  model?: string;
  tier?: Tier;
  requestedTier?: Tier;
  /** In the order in which they would be tried, closed ones last. */
  candidates?: Candidate[];
  estimatedCostMicrousd?: string;
  windowTokens?: number;
  why?: string;
  prices?: string;
  /** The version that held: "policies/0" is the one built in. */
  policy?: string;
}

export interface Usage {
  inputTokens?: number;
  outputTokens?: number;
  /** The provider gave no figures; these were counted from the text. */
  estimated?: boolean;
}

export interface Failure {
  reason?: string;
  message?: string;
  retryable?: boolean;
}

// soma.router.v1

export type Thumb = "up" | "down";

// soma.agent.v1

export interface Conversation {
  name: string;
  title?: string;
  etag?: string;
  createTime?: string;
  updateTime?: string;
  runningTurn?: string;
}

export type TurnState = "STATE_UNSPECIFIED" | "STATE_RUNNING" | "STATE_DONE" | "STATE_FAILED" | "STATE_CANCELLED";

export interface Turn {
  name: string;
  state?: TurnState;
  text?: string;
  answer?: string;
  tier?: Tier;
  decision?: Decision;
  usage?: Usage;
  costMicrousd?: string;
  finishReason?: string;
  error?: Failure;
  createTime?: string;
  endTime?: string;
  lastSequence?: number;
  firstTokenMs?: number;
}

export interface Accepted {
  turn: string;
  conversation: string;
}

export interface Done {
  usage?: Usage;
  costMicrousd?: string;
  finishReason?: string;
  firstTokenMs?: number;
}

/** Opens or closes a pane of the answer: the texts between the two belong to it. */
export interface AnswerPane {
  name: string;
  kind?: PaneKind;
  title?: string;
  language?: string;
  /** What the pane holds already when it opens. */
  text?: string;
  closed?: boolean;
}

/** One step of a turn: a sequence (none on a heartbeat) and one of the rest. */
export interface ChatEvent {
  sequence?: number;
  accepted?: Accepted;
  decision?: Decision;
  text?: { delta?: string };
  pane?: AnswerPane;
  heartbeat?: Record<string, never>;
  done?: Done;
  error?: Failure;
}

export interface ChatRequest {
  conversation?: string;
  text: string;
  requestId: string;
  tier: Tier;
}

export interface ListTurnsResponse {
  turns?: Turn[];
  nextPageToken?: string;
}

export interface ListConversationsResponse {
  conversations?: Conversation[];
  nextPageToken?: string;
}

// soma.canvas.v1

export type PaneKind = "chat" | "code" | "html" | "log" | "image" | "table";

export type PaneState = "STATE_UNSPECIFIED" | "STATE_READY" | "STATE_WRITING";

export interface Pane {
  name: string;
  kind?: PaneKind;
  title?: string;
  language?: string;
  text?: string;
  etag?: string;
  version?: number;
  state?: PaneState;
  /** Of the newest version: "person" or "agent". */
  author?: string;
  /** The turn that made it. Absent: a person did. */
  turn?: string;
  createTime?: string;
  updateTime?: string;
}

export interface PaneVersion {
  name: string;
  version?: number;
  title?: string;
  language?: string;
  /** Absent in lists. */
  text?: string;
  sizeBytes?: number;
  author?: string;
  createTime?: string;
}

export interface Layout {
  name?: string;
  panes?: string[];
  active?: string;
  beside?: string;
  etag?: string;
}

export interface PatchOperation {
  op: string;
  path?: string;
  value?: unknown;
}

/** One step of a canvas: a revision (none on a heartbeat, nor within a snapshot) and one of the rest. */
export interface CanvasEvent {
  revision?: number;
  patch?: { operations?: PatchOperation[] };
  heartbeat?: Record<string, never>;
  done?: { deleted?: boolean };
  error?: Failure;
}

export interface ListPanesResponse {
  panes?: Pane[];
  nextPageToken?: string;
}

export interface ListPaneVersionsResponse {
  versions?: PaneVersion[];
  nextPageToken?: string;
}

// google.rpc

export interface Status {
  code?: number;
  message?: string;
  details?: StatusDetail[];
}

export interface StatusDetail {
  "@type"?: string;
  reason?: string;
  metadata?: Record<string, string>;
  retryDelay?: string;
}
