// A verifier that a stranger wrote from docs/audit-format.md alone. Decompressed lines on stdin:
//   zstd -dc acme.audit.zst | node verify.mjs [--key VERIFIER_KEY]... [--head FILE]
// It prints one JSON object, and ends with 0 or 1.
import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'

const LF = 0x0a
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const sha3 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha3-512')).digest()
const byte = (value) => Buffer.from([value])
const node = (left, right) => sha256(byte(1), left, right)

class Bad extends Error {
  constructor(kind, index, text) {
    super(text)
    Object.assign(this, { kind, index })
  }
}

function need(condition, kind, index, text) {
  if (!condition) throw new Bad(kind, index, text)
}

function base64(text, length, index) {
  const raw = Buffer.from(text, 'base64')
  need(raw.toString('base64') === text && raw.length === length, 'malformed', index, `bad base64: ${text.slice(0, 40)}`)
  return raw
}

function number(text, index) {
  need(/^(0|[1-9][0-9]{0,15})$/.test(text), 'malformed', index, `no number: ${text.slice(0, 40)}`)
  return Number(text)
}

function verifierKey(text) {
  const found = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text)
  need(found, 'malformed', null, 'no verifier key')
  const [, name, id, encoded] = found
  const raw = base64(encoded, 33, null)
  need(raw[0] === 1, 'malformed', null, 'the key is not Ed25519')
  const own = sha256(Buffer.from(`${name}\n`), raw).subarray(0, 4).toString('hex')
  need(own === id, 'malformed', null, 'the key id is not that of the key')
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: raw.subarray(1).toString('base64url') }
  return { name, id, text, public: createPublicKey({ key: jwk, format: 'jwk' }) }
}

function parseNote(text, index) {
  const split = text.lastIndexOf('\n\n')
  need(split > 0 && text.endsWith('\n'), 'malformed', index, 'no signed note')
  const signed = text.slice(0, split + 1)
  const signatures = text.slice(split + 2, -1).split('\n').map((line) => {
    const found = /^— ([^\s+]+) (\S+)$/u.exec(line)
    need(found, 'malformed', index, 'no signature line')
    const raw = base64(found[2], 68, index)
    return { name: found[1], id: raw.subarray(0, 4).toString('hex'), raw: raw.subarray(4) }
  })
  const [origin, size, root, chain, time, rest] = signed.split('\n')
  need(rest === '' && chain.startsWith('chain ') && /^time \S+Z$/.test(time), 'malformed', index, 'no checkpoint')
  return {
    signed, signatures, origin, size: number(size, index),
    root: base64(root, 32, index), chain: base64(chain.slice(6), 64, index),
  }
}

const isSigned = (note, signature, key) => verify(null, Buffer.from(note.signed), key.public, signature.raw)

class Trail {
  constructor(pins, given) {
    Object.assign(this, { pins, given, keys: [], links: [], reach: new Map(), digest: createHash('sha256') })
    Object.assign(this, { stage: 'header', first: 0, size: 0, heads: 0, good: 0, last: null, doubt: null, end: null })
  }

  line(raw) {
    need(!this.end, 'malformed', this.size, 'something stands after the end')
    const isEvent = raw.length > 5 && raw.toString('latin1', 0, 6) === 'event '
    if (isEvent && this.stage === 'body') this.event(raw)
    else this.other(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw))
    if (!this.end) this.digest.update(raw).update(byte(LF))
  }

  other(line) {
    const fields = line.split(' ')
    const at = this.stage === 'body' ? this.size : null
    if (this.stage === 'header') this.header(fields)
    else if (fields[0] === 'key' && this.stage === 'keys') this.key(fields)
    else if (fields[0] === 'start' && this.stage === 'keys' && this.keys.length) this.start(fields)
    else if (fields[0] === 'head' && this.stage === 'body') this.head(line)
    else if (fields[0] === 'end' && this.stage === 'body') this.close(fields)
    else throw new Bad('malformed', at, `a line ${line.slice(0, 20)} cannot stand here`)
  }

  header([word, version, tenant, origin, ...more]) {
    need(word === 'soma-audit' && version === '1', 'malformed', null, 'no audit file of format 1')
    need(!more.length && tenant && origin?.endsWith(`/audit/${tenant}`), 'malformed', null, 'no header')
    Object.assign(this, { tenant, origin, stage: 'keys' })
  }

  key([, first, last, text, ...more]) {
    need(text && !more.length, 'malformed', null, 'no key line')
    const key = verifierKey(text)
    key.first = number(first, null)
    key.last = last === '-' ? Infinity : number(last, null)
    const before = this.keys.at(-1)
    need(key.name === this.origin && key.first <= key.last, 'malformed', null, 'the key is of another trail')
    need(!this.keys.some((other) => other.id === key.id), 'malformed', null, 'a key is listed twice')
    need(!before || before.last <= key.first, 'malformed', null, 'two keys at once')
    this.keys.push(key)
  }

  start([, index, chain, edge, ...more]) {
    need(edge && !more.length, 'malformed', null, 'no start line')
    this.first = this.size = this.good = number(index, null)
    this.chain = base64(chain, 64, null)
    this.edge = edge === '-' ? [] : edge.split(',').map((hash) => base64(hash, 32, null))
    const bits = BigInt(this.first).toString(2).replaceAll('0', '').length
    need(this.edge.length === bits, 'malformed', null, 'the edge does not fit the index')
    need(this.first || this.chain.equals(Buffer.alloc(64)), 'malformed', null, 'a trail begins with zeros')
    this.stage = 'body'
    this.watch()
  }

  event(raw) {
    const one = raw.indexOf(0x20, 6)
    const two = raw.indexOf(0x20, one + 1)
    const index = raw.toString('latin1', 6, one < 0 ? undefined : one)
    need(index === String(this.size), /^[0-9]+$/.test(index) ? 'missing or moved' : 'altered', this.size, 'another index')
    need(one > 0 && two > 0, 'altered', this.size, 'no event line')
    const event = raw.subarray(two + 1)
    const leaf = sha256(byte(0), event)
    const chain = sha3(this.chain, leaf)
    need(chain.toString('base64') === raw.toString('latin1', one + 1, two), 'altered', this.size, 'not what was sealed')
    if (this.size === this.first || this.size % 1000 === 0) this.sample(event, this.size)
    this.newest = event
    this.grow(leaf)
    this.chain = chain
    this.watch()
  }

  grow(leaf) {
    let right = leaf
    for (let size = this.size; size % 2 === 1; size = Math.floor(size / 2)) right = node(this.edge.pop(), right)
    this.edge.push(right)
    this.size += 1
  }

  root() {
    if (!this.edge.length) return sha256()
    return this.edge.reduceRight((right, left) => node(left, right))
  }

  watch() {
    if (this.given?.size === this.size) this.seen = { root: this.root(), chain: this.chain }
  }

  sample(event, index) {
    let body
    try {
      body = JSON.parse(event.toString())
    } catch {
      throw new Bad('malformed', index, 'no JSON')
    }
    need(Buffer.from(canonical(body)).equals(event), 'malformed', index, 'not canonical')
    need(body.tenant === this.tenant, 'malformed', index, 'of another tenant')
  }

  head(line) {
    let text
    try {
      text = JSON.parse(line.slice(5))
    } catch {
      throw new Bad('malformed', this.size, 'no JSON string')
    }
    need(typeof text === 'string' && `head ${JSON.stringify(text)}` === line, 'malformed', this.size, 'no JSON string')
    const note = parseNote(text, this.size)
    need(note.origin === this.origin, 'malformed', this.size, 'a head of another trail')
    need(note.size === this.size, note.size > this.size ? 'missing' : 'reordered', this.size, 'a head out of place')
    this.signed(note)
    const fits = note.root.equals(this.root()) && note.chain.equals(this.chain)
    if (fits && this.doubt) throw new Bad('forked', this.doubt.index, 'two heads contradict each other')
    if (fits) this.good = this.size
    else if (this.last?.size === this.size && this.good === this.size) throw new Bad('forked', this.size - 1, 'two heads')
    else this.doubt ??= new Bad('altered', this.good, `events ${this.good} to ${this.size - 1} lead elsewhere`)
    this.last = note
    this.heads += 1
  }

  signed(note) {
    const pairs = note.signatures
      .filter((signature) => signature.name === this.origin)
      .map((signature) => [signature, this.keys.find((key) => key.id === signature.id)])
      .filter(([, key]) => key)
    const index = this.good < this.size ? this.good : null
    need(pairs.length, 'wrong key', index, 'nobody known signed the head')
    for (const [signature, key] of pairs) {
      need(isSigned(note, signature, key), 'wrong key', index, 'a signature does not hold')
      need(key.first <= note.size && note.size <= key.last, 'wrong key', index, 'a key out of its range')
      this.reach.set(key.id, note.size)
    }
    this.links.push(pairs.map(([, key]) => key.id))
  }

  close([, events, size, heads, hash, ...more]) {
    need(hash && !more.length, 'malformed', this.size, 'no end line')
    this.end = { events: number(events), size: number(size), heads: number(heads), hash: base64(hash, 32, this.size) }
  }

  trusted() {
    if (!this.pins.length) return this.keys
    const ids = new Set(this.pins.filter((pin) => this.keys.some((key) => key.text === pin.text)).map((pin) => pin.id))
    for (let size = -1; size !== ids.size; ) {
      size = ids.size
      for (const link of this.links) if (link.some((id) => ids.has(id))) link.forEach((id) => ids.add(id))
    }
    return this.keys.filter((key) => ids.has(key.id))
  }

  finish() {
    if (this.doubt) throw this.doubt
    need(this.end, 'cut tail', this.stage === 'body' ? this.size : null, 'no end line')
    need(this.end.size <= this.size, 'cut tail', this.size, 'fewer events than the end says')
    need(this.last && this.good === this.size, 'cut tail', this.good, 'events under no head')
    this.sample(this.newest, this.size - 1)
    const trusted = this.trusted()
    need(trusted.length, 'wrong key', this.first, 'signed with no key that is trusted')
    const vouched = Math.max(...trusted.map((key) => this.reach.get(key.id) ?? 0))
    need(vouched >= this.size, 'wrong key', Math.max(vouched, this.first), 'the last head is not of a trusted key')
    if (this.given) this.compare([...trusted, ...this.pins])
    const { events, size, heads, hash } = this.end
    const counts = events === this.size - this.first && size === this.size && heads === this.heads
    need(counts, 'malformed', null, 'the end counts otherwise')
    need(hash.equals(this.digest.digest()), 'altered', null, 'the file is not as it was written')
  }

  compare(keys) {
    const given = this.given
    const holds = given.signatures.some((signature) =>
      keys.some((key) => key.name === signature.name && key.id === signature.id && isSigned(given, signature, key)))
    need(given.origin === this.origin && holds, 'wrong key', null, 'the head given is not of this trail')
    need(given.size <= this.size, 'cut tail', this.size, 'the head given covers more')
    need(given.size >= this.first, 'missing', given.size, 'the file begins behind the head given')
    const same = this.seen.root.equals(given.root) && this.seen.chain.equals(given.chain)
    need(same, 'forked', null, 'the head given is of another history')
  }
}

// RFC 8785 for what audit events hold. ECMAScript's own number and string forms are what the RFC asks for.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`)
  return `{${members.join(',')}}`
}

async function* lines(stream) {
  let rest = Buffer.alloc(0)
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk])
    let from = 0
    for (let to = rest.indexOf(LF); to >= 0; to = rest.indexOf(LF, from)) {
      yield rest.subarray(from, to)
      from = to + 1
    }
    rest = rest.subarray(from)
  }
  if (rest.length) yield null
}

async function main(words) {
  const pins = []
  let given = null
  for (let at = 0; at < words.length; at += 2) {
    if (words[at] === '--key') pins.push(verifierKey(words[at + 1]))
    else if (words[at] === '--head') given = parseNote(readFileSync(words[at + 1], 'utf8'), null)
    else throw new Bad('malformed', null, `what is ${words[at]}?`)
  }
  const trail = new Trail(pins, given)
  try {
    for await (const line of lines(process.stdin)) {
      need(line, 'malformed', trail.stage === 'body' ? trail.size : null, 'the last line has no end')
      trail.line(line)
    }
    trail.finish()
  } catch (fault) {
    if (trail.doubt && fault.kind !== 'forked') throw trail.doubt
    throw fault instanceof Bad ? fault : new Bad('malformed', trail.stage === 'body' ? trail.size : null, String(fault))
  }
  return trail
}

try {
  const trail = await main(process.argv.slice(2))
  console.log(JSON.stringify({ ok: true, tenant: trail.tenant, first: trail.first, size: trail.size }))
} catch (fault) {
  console.log(JSON.stringify({ ok: false, kind: fault.kind ?? 'fault', index: fault.index ?? null, text: fault.message }))
  process.exitCode = 1
}
