/** What holds for every call, said once before the operations. */
import type { ReactNode } from "react";
import { inQuotes } from "./curl";
import { CHAPTERS } from "./chapters";
import type { Reason } from "./operations";
import { Line } from "./Prose";
import { Sample } from "./Sample";

const QUESTION = `curl -N "${location.origin}/v1/chat:stream" \\
  -H "authorization: Bearer \${TOKEN}" \\
  -H "content-type: application/json" \\
  -d ${inQuotes('{ "text": "What is a turn?" }')}`;

const REFUSED = `{
  "code": 10,
  "message": "A question of this conversation is still being answered. Wait for it, or cancel it.",
  "details": [
    {
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      "reason": "TURN_RUNNING",
      "domain": "soma",
      "metadata": { "turn": "conversations/…/turns/…" }
    }
  ]
}`;

const STREAM = `data: {"sequence":1,"accepted":{"turn":"conversations/…/turns/…","conversation":"conversations/…"}}

data: {"sequence":2,"decision":{"provider":"local","model":"…","why":"…"}}

data: {"sequence":3,"text":{"delta":"A turn is one question "}}

data: {"heartbeat":{}}

data: {"sequence":4,"text":{"delta":"and its answer."}}

data: {"sequence":5,"done":{"finishReason":"stop","usage":{"inputTokens":12,"outputTokens":9}}}`;

const RESUMED = `curl -N "${location.origin}/v1/conversations/\${CONVERSATION}/turns/\${TURN}:watch?afterSequence=3" \\
  -H "authorization: Bearer \${TOKEN}"`;

const PYTHON = `from soma_sdk import Soma, from_command

token = from_command(["soma", "token", "--tenant", "acme", "--person", "member"])
async with Soma.connect("${location.hostname}:8443", svid="DIR", token=token) as soma:
    answer = await soma.ask("What is a turn?")
    print(answer.text, answer.why)`;

const CHANGED = `curl -X PATCH "${location.origin}/v1/conversations/\${CONVERSATION}?updateMask=title&requestId=$(uuidgen)" \\
  -H "authorization: Bearer \${TOKEN}" \\
  -H "content-type: application/json" \\
  -d ${inQuotes('{ "title": "Boats" }')}`;

export function Guides({ reasons }: { reasons: Reason[] }): ReactNode {
  return (
    <>
      <Guide id="begin" samples={<Sample title="Ask a question" code={QUESTION} language="bash" />}>
        <p>
          The mesh that serves this page answers at <code data-testid="base">{location.origin}</code>. Requests and
          answers are JSON; what takes time is a stream of server-sent events. Each operation below comes with a line
          that can be copied into a shell as it is, once <code>TOKEN</code> is set.
        </p>
        <p>
          Whether the mesh can answer a chat is said by <code>GET /healthz</code>, without a token.
        </p>
      </Guide>
      <Guide
        id="tokens"
        samples={
          <Sample
            title="On a developer's machine"
            code="TOKEN=$(.venv/bin/soma token --tenant acme --person member)"
            language="bash"
          />
        }
      >
        <p>
          Every call carries a person's token: <code>authorization: Bearer …</code>, a JWT of the mesh's issuer. It says
          who the person is, in which tenant and with which roles. A tenant is never part of a request.
        </p>
        <p>
          On a developer's machine <code>soma token</code> makes one that is good for an hour. Programs that people sign
          in to use OpenID Connect (code with PKCE); where, is said by{" "}
          <a href="/oidc/.well-known/openid-configuration">/oidc/.well-known/openid-configuration</a>.
        </p>
        <p>
          <Line text="A missing, expired or foreign token is TOKEN_REFUSED (401), a role that is not enough ROLE_REFUSED (403). What belongs to somebody else is not found (404), as if it did not exist." />
        </p>
      </Guide>
      <Guide id="values">
        <p>
          Names are lowerCamel. An answer holds every field, the empty ones too; only what is optional, or an object
          that is not there, is left out. 64-bit numbers are strings, for JavaScript's sake. Times are RFC 3339 in UTC.
          A field of a body that the mesh does not know is ignored; an unknown parameter in the query is refused.
        </p>
      </Guide>
      <Guide id="errors" samples={<Sample title="A refusal (409)" code={REFUSED} language="json" />}>
        <p>
          Every refusal, the edge's own too, is a <code>google.rpc.Status</code> with a sentence for a person and an{" "}
          <code>ErrorInfo</code> for programs: branch on its <code>reason</code>, never on the sentence. The{" "}
          <code>metadata</code> name what it is about.
        </p>
        <p>
          With 429, and with a 503 that will pass, comes a <code>RetryInfo</code>: call again after its{" "}
          <code>retryDelay</code>. What goes wrong after a stream has begun can no longer be a status: it is an event{" "}
          <code>error</code> with a reason, a sentence and whether the same request may succeed later.
        </p>
      </Guide>
      <Guide
        id="streams"
        samples={
          <>
            <Sample title="An answer" code={STREAM} language="text" />
            <Sample title="Go on after event 3" code={RESUMED} language="bash" />
          </>
        }
      >
        <p>
          A refusal before the first event is an ordinary error status. Then each message is a line <code>data:</code>{" "}
          with JSON, numbered by <code>sequence</code> from 1 without gaps. When nothing else is to be said for 15
          seconds a <code>heartbeat</code> comes; it has no number.
        </p>
        <p>
          A stream ends with <code>done</code> or <code>error</code>.{" "}
          <strong>One that ends without either was cut.</strong> Nothing is lost: the work goes on, and{" "}
          <Line text="WatchTurn" /> with the last sequence you have seen gives the rest, as often as you like. Hanging
          up stops nothing either; <Line text="CancelTurn" /> does.
        </p>
        <p>
          <Line text="WatchCanvas goes by `revision` instead: give the last as `afterRevision`. Without one it begins with a snapshot. It ends with `done` after five minutes at most." />
        </p>
      </Guide>
      <Guide id="pages">
        <p>
          Lists are newest first. <code>pageSize</code> is 1 to 100; without it, 50. A <code>nextPageToken</code> in an
          answer goes as <code>pageToken</code> into the next call, with all else unchanged; an empty one says that this
          was the last page. A page may hold fewer than asked for: it ends early at 512 KiB.
        </p>
      </Guide>
      <Guide id="writes" samples={<Sample title="Rename, and repeat without harm" code={CHANGED} language="bash" />}>
        <p>
          Give a write a <code>requestId</code>, a UUID of your choice, and it may be sent again after a lost answer:
          for a day the same id gives the same result.{" "}
          <Line text="The same id with other content is REQUEST_ID_REUSED." />
        </p>
        <p>
          A change names its fields in <code>updateMask</code>; an empty mask is refused. Send the <code>etag</code>{" "}
          that you have read, and a change made meanwhile by somebody else is not overwritten:{" "}
          <Line text="you get ETAG_STALE (409)." />
        </p>
      </Guide>
      <Guide
        id="python"
        samples={
          <>
            <Sample title="On a developer's machine, once" code="soma svid --out DIR" language="bash" />
            <Sample title="Ask" code={PYTHON} language="python" />
          </>
        }
      >
        <p>
          The same operations are served by gRPC, for programs with a certificate of their own (mutual TLS, SPIFFE)
          beside the person&apos;s token. <code>soma status</code> prints the address.
        </p>
        <p>
          <code>soma_sdk</code>, in the folder <code>sdk</code> of the project, speaks it for you: it renews tokens,
          goes on with streams that were cut, repeats what may be repeated, and raises an error class a kind, with the
          reason.
        </p>
      </Guide>
      <Guide id="reasons">
        <p>An error's reason is one of these. Their meaning does not change.</p>
        <dl className="reasons" data-testid="reasons">
          {reasons.map(({ name, status, says, operations }) => (
            <div key={name} id={name} data-testid="reason">
              <dt>
                <a href={`#${name}`}>{name}</a>
                <span className={status ? "status" : "tag"}>{status || "in a stream"}</span>
              </dt>
              <dd>
                <Line text={says} />
                {operations.length > 0 && (
                  <p className="refusers">
                    {operations.map(({ id, name: operation }) => (
                      <a key={id} href={`#${id}`}>
                        {operation}
                      </a>
                    ))}
                  </p>
                )}
              </dd>
            </div>
          ))}
        </dl>
      </Guide>
    </>
  );
}

interface GuideProps {
  id: (typeof CHAPTERS)[number]["id"];
  samples?: ReactNode;
  children: ReactNode;
}

function Guide({ id, samples, children }: GuideProps): ReactNode {
  return (
    <section className="guide" id={id} aria-labelledby={`${id}.name`}>
      <div className="tells">
        <h2 id={`${id}.name`}>{CHAPTERS.find((guide) => guide.id === id)?.title}</h2>
        <div className="says">{children}</div>
      </div>
      {samples && <div className="samples">{samples}</div>}
    </section>
  );
}
