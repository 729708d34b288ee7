"""The steps of the limiter in Redis: one script each, so that nothing comes between a check and its take.

Times are whole microseconds: `now` by the clock of Redis, for windows and leases; `wall` and what is compared with it
by the clock of the caller, which also stamps ledger entries.

Keys, each behind the prefix P:
    e           hash: `nonce` and `at` of the moment these counters began, `closed` until when nothing is let in
    h           hash: reservation -> packed {tokens, cost, wall of its begin, subject...}
    x           sorted set: reservation -> end of its lease
    s:SUBJECT   hash: ht, hc  held by running work
                      done, tb  tokens settled within the window; whether a bar needs them
                      born  `l` is complete from here on (wall)
                      last  latest ledger time of what was settled (wall)
                      qs, qe  period of the quota
                      qT, qn, qt, qc, ql  until when the ledger tells, and the number of the question to it; tokens
                            and cost used; whether its answer is in
                      ghost, gt, gc  moment and amounts of work that ended without telling what it used
    o:SUBJECT   sorted set: running reservation -> wall of its begin
    r:SUBJECT   sorted set: reservation -> begin, within the window
    t:SUBJECT   sorted set: "tokens:reservation" -> when it was settled, within the window
    l:SUBJECT   hash: t<second>, c<second> -> settled with a ledger time in that second
"""

REDIS_TIME = "redis.call('TIME')"
"""Gives the clock as {seconds, microseconds}; tests put another one in its place."""

COMMON = """
local P, CLOCK = ARGV[1], @CLOCK@
local now = tonumber(CLOCK[1]) * 1000000 + tonumber(CLOCK[2])
local KEEP_S = 172800
local call = redis.call

local function int(x) return string.format('%.0f', x + 0) end  -- + 0: there is a minus zero
local function second(wall) return math.floor(wall / 1000000) end

local function ensure(name, wall)
  local s = P .. 's:' .. name
  if call('EXISTS', s) == 0 then
    call('DEL', P .. 'o:' .. name, P .. 't:' .. name, P .. 'l:' .. name)
    call('HSET', s, 'born', int(wall))
    call('EXPIRE', s, KEEP_S)
  end
  return s
end

local function hold(id, tokens, cost, begun, names, lease, wall)
  for _, name in ipairs(names) do
    local s, o = ensure(name, wall), P .. 'o:' .. name
    call('ZADD', o, int(begun), id)
    call('HINCRBY', s, 'ht', int(tokens))
    call('HINCRBY', s, 'hc', int(cost))
    call('EXPIRE', s, KEEP_S)
    call('EXPIRE', o, KEEP_S)
  end
  call('HSET', P .. 'h', id, cmsgpack.pack({tokens, cost, begun, names}))
  call('ZADD', P .. 'x', int(now + lease), id)
end

local function let_go(id)
  local packed = call('HGET', P .. 'h', id)
  call('ZREM', P .. 'x', id)
  if not packed then return nil end
  call('HDEL', P .. 'h', id)
  local held = cmsgpack.unpack(packed)
  for _, name in ipairs(held[4]) do
    if call('ZREM', P .. 'o:' .. name, id) == 1 then
      call('HINCRBY', P .. 's:' .. name, 'ht', int(-held[1]))
      call('HINCRBY', P .. 's:' .. name, 'hc', int(-held[2]))
    end
  end
  return held
end

-- Work that ended and did not tell: the ledger may have it or not. Its amount stays in the quota until all that ran
-- beside it has ended, and then the quota is loaded again.
local function suspect(name, tokens, cost, wall)
  local s = ensure(name, wall)
  call('HINCRBY', s, 'gt', int(tokens))
  call('HINCRBY', s, 'gc', int(cost))
  call('HSET', s, 'ghost', int(wall))
end

local function reap(wall)
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'x', '-inf', int(now), 'LIMIT', 0, 1000)) do
    local held = let_go(id)
    for _, name in ipairs(held and held[4] or {}) do suspect(name, held[1], held[2], wall) end
  end
end

-- The moment before which all work has ended and is in the ledger.
local function border(name, born, wall)
  local oldest = call('ZRANGE', P .. 'o:' .. name, 0, 0, 'WITHSCORES')[2]
  return math.max(born, second(tonumber(oldest or wall)) * 1000000)
end
"""

RESERVE = """
-- A lease of 0 holds nothing: the request is counted, and that is all.
local id, known, span = ARGV[2], ARGV[3], tonumber(ARGV[4])
local window, lease, wall = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local tokens, cost, count = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local nonce = id  -- where there are no counters yet: they are known by the first reservation

local function read(index)
  local at = 10 + (index - 1) * 11
  local function number(offset) return tonumber(ARGV[at + offset]) end
  return {name = ARGV[at + 1], requests = number(2), tokens = number(3), concurrency = number(4),
          quota_tokens = number(5), quota_cost = number(6), since = number(7), till = number(8),
          base_of = number(9), base_tokens = ARGV[at + 10], base_cost = ARGV[at + 11]}
end

-- Counters that are younger than what a caller has seen lost a window: closed until it has passed.
local function closed_for()
  local e = P .. 'e'
  local seen = call('HMGET', e, 'nonce', 'at', 'closed')
  if not seen[1] then
    seen = {nonce, int(now), false}
    call('HSET', e, 'nonce', nonce, 'at', int(now))
  end
  nonce = seen[1]
  if known ~= '' and known ~= nonce and tonumber(seen[2]) + span > now then
    seen[3] = int(tonumber(seen[2]) + span)
    call('HSET', e, 'closed', seen[3])
  end
  return seen[3] and math.max(0, tonumber(seen[3]) - now) or 0
end

local function begin_period(sub, s, born)
  local T, used_tokens, used_cost = border(sub.name, born, wall), 0, 0
  local log = call('HGETALL', P .. 'l:' .. sub.name)
  for i = 1, #log, 2 do
    local moment = tonumber(string.sub(log[i], 2)) * 1000000
    if moment >= second(T) * 1000000 and moment >= sub.since and moment < sub.till then
      if string.sub(log[i], 1, 1) == 't' then used_tokens = used_tokens + tonumber(log[i + 1])
      else used_cost = used_cost + tonumber(log[i + 1]) end
    end
  end
  call('HSET', s, 'qs', int(sub.since), 'qe', int(sub.till), 'qT', int(T), 'qt', int(used_tokens), 'qc', int(used_cost),
       'ql', T <= sub.since and '1' or '0')
  return T, T <= sub.since, call('HINCRBY', s, 'qn', 1)
end

-- Returns until when the ledger has to be asked before this subject can be judged, and the number of this question;
-- nil when it is known.
local function unknown(sub)
  local s = ensure(sub.name, wall)
  local q = call('HMGET', s, 'qs', 'qe', 'qT', 'ql', 'ghost', 'born', 'last', 'qn')
  local born = tonumber(q[6])
  if q[5] and call('EXISTS', P .. 'o:' .. sub.name) == 0 then  -- nothing runs: the ledger has all, from before now
    born = math.max(wall, tonumber(q[7] or 0) + 1)
    call('DEL', P .. 'l:' .. sub.name)
    call('HSET', s, 'born', int(born))
  end
  if q[5] and border(sub.name, born, wall) >= tonumber(q[5]) then
    call('HDEL', s, 'ghost', 'gt', 'gc', 'qs')
    q[1] = false
  end
  local T, is_loaded, question = tonumber(q[3]), q[4] == '1', tonumber(q[8])
  if tonumber(q[1]) ~= sub.since or tonumber(q[2]) ~= sub.till then
    T, is_loaded, question = begin_period(sub, s, born)
  end
  if is_loaded then return nil end
  if sub.base_of == question then
    call('HINCRBY', s, 'qt', sub.base_tokens)
    call('HINCRBY', s, 'qc', sub.base_cost)
    call('HSET', s, 'ql', '1')
    return nil
  end
  return T, question
end

local refusals = {'no', ''}
local function refuse(index, dimension, bar, used, held, wait)
  for _, value in ipairs({index, dimension, bar, used, held, wait}) do refusals[#refusals + 1] = value end
end

local function wait_for_tokens(t, missing)
  local at = 0
  while true do
    local part = call('ZRANGE', t, at, at + 49, 'WITHSCORES')
    if #part == 0 then return -2 end
    for i = 1, #part, 2 do
      missing = missing - tonumber(string.match(part[i], '^%d+'))
      if missing <= 0 then return tonumber(part[i + 1]) + window - now end
    end
    at = at + 50
  end
end

local function judge_window(index, sub, s)
  local r, t = P .. 'r:' .. sub.name, P .. 't:' .. sub.name
  sub.running = call('ZCARD', P .. 'o:' .. sub.name)
  if sub.concurrency and sub.running >= sub.concurrency then
    refuse(index, 'concurrency', sub.concurrency, 0, sub.running, sub.concurrency == 0 and -1 or -2)
  end
  if sub.requests then
    call('ZREMRANGEBYSCORE', r, '-inf', int(now - window))
    sub.begun = call('ZCARD', r)
    if sub.begun >= sub.requests then
      local wait = -1
      if sub.requests > 0 then
        local place = sub.begun - sub.requests
        wait = tonumber(call('ZRANGE', r, place, place, 'WITHSCORES')[2]) + window - now
      end
      refuse(index, 'requests', sub.requests, sub.begun, 0, wait)
    end
  end
  if sub.tokens then
    local gone, sum = call('ZRANGEBYSCORE', t, '-inf', int(now - window)), 0
    for _, member in ipairs(gone) do sum = sum + tonumber(string.match(member, '^%d+')) end
    call('ZREMRANGEBYSCORE', t, '-inf', int(now - window))
    if #gone > 0 then call('HINCRBY', s, 'done', int(-sum)) end
    if call('EXISTS', t) == 0 then call('HSET', s, 'done', 0) end  -- it may have expired as a whole
  end
end

local function judge_amounts(index, sub, s)
  local state = call('HMGET', s, 'done', 'ht', 'hc', 'qt', 'qc', 'gt', 'gc')
  for i = 1, 7 do state[i] = tonumber(state[i] or 0) end
  local done, ht, hc = state[1], state[2], state[3]
  sub.done, sub.held = done, ht
  if sub.tokens and tokens > 0 and done + ht + tokens > sub.tokens then
    local wait = -1
    if tokens <= sub.tokens then wait = wait_for_tokens(P .. 't:' .. sub.name, done + ht + tokens - sub.tokens) end
    refuse(index, 'tokens', sub.tokens, done, ht, wait)
  end
  if sub.quota_tokens and tokens > 0 and state[4] + state[6] + ht + tokens > sub.quota_tokens then
    refuse(index, 'quota_tokens', sub.quota_tokens, state[4], ht + state[6], 0)
  end
  if sub.quota_cost and cost > 0 and state[5] + state[7] + hc + cost > sub.quota_cost then
    refuse(index, 'quota_cost', sub.quota_cost, state[5], hc + state[7], 0)
  end
end

local closed = closed_for()
if closed > 0 then return {'closed', nonce, closed} end
reap(wall)
local subs, names, loads = {}, {}, {'load', nonce}
for index = 1, count do
  local sub = read(index)
  subs[index], names[index] = sub, sub.name
  if sub.since then
    local T, question = unknown(sub)
    if T then for _, value in ipairs({index, T, question}) do loads[#loads + 1] = value end end
  end
end
if #loads > 2 then return loads end
refusals[2] = nonce
for index, sub in ipairs(subs) do
  local s = ensure(sub.name, wall)
  call('HSET', s, 'tb', sub.tokens and '1' or '0')
  judge_window(index, sub, s)
  judge_amounts(index, sub, s)
end
if #refusals > 2 then return refusals end

if lease > 0 then hold(id, tokens, cost, wall, names, lease, wall) end
local answer = {'ok', nonce}
for _, sub in ipairs(subs) do
  local newest = 0
  if sub.requests then
    local r = P .. 'r:' .. sub.name
    call('ZADD', r, int(now), id)
    call('PEXPIRE', r, int(math.ceil(window / 1000) + 1000))
  end
  if sub.tokens and sub.held + tokens == 0 then
    newest = tonumber(call('ZRANGE', P .. 't:' .. sub.name, -1, -1, 'WITHSCORES')[2] or 0)
  end
  answer[#answer + 1] = sub.requests and sub.requests - sub.begun - 1 or -1
  answer[#answer + 1] = sub.tokens and math.max(0, sub.tokens - sub.done - sub.held - tokens) or -1
  answer[#answer + 1] = (sub.tokens and sub.held + tokens > 0) and window or math.max(0, newest + window - now)
end
return answer
"""

SETTLE = """
local id, at, window, is_retry, wall = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
local tokens, cost = tonumber(ARGV[7]), tonumber(ARGV[8])

local function count_in_window(name, s, has_bar)
  local flag = call('HGET', s, 'tb')
  if tokens == 0 or (flag or has_bar) ~= '1' then return true end
  local t = P .. 't:' .. name
  if call('EXISTS', t) == 0 then call('HSET', s, 'done', 0) end
  local is_new = call('ZADD', t, int(now), int(tokens) .. ':' .. id) == 1
  if is_new then call('HINCRBY', s, 'done', int(tokens)) end
  call('PEXPIRE', t, int(math.ceil(window / 1000) + 1000))
  return is_new
end

local function forget_seconds(name, s, l, born)
  if call('HLEN', l) < 32 then return end
  local oldest = tonumber(call('ZRANGE', P .. 'o:' .. name, 0, 0, 'WITHSCORES')[2] or at)
  local cutoff = second(oldest) - 5
  for _, field in ipairs(call('HKEYS', l)) do
    if tonumber(string.sub(field, 2)) < cutoff then call('HDEL', l, field) end
  end
  if cutoff * 1000000 > born then call('HSET', s, 'born', int(cutoff * 1000000)) end
end

local function count_in_period(name, s)
  local q = call('HMGET', s, 'qs', 'qe', 'qT', 'born', 'last')
  local born, l = tonumber(q[4]), P .. 'l:' .. name
  if at > tonumber(q[5] or 0) then call('HSET', s, 'last', int(at)) end
  if at >= born then
    local sum = call('HINCRBY', l, 't' .. int(second(at)), int(tokens))
    if cost > 0 then call('HINCRBY', l, 'c' .. int(second(at)), int(cost)) end
    call('EXPIRE', l, KEEP_S)
    if sum == tokens then forget_seconds(name, s, l, born) end
  end
  if not q[1] or at < tonumber(q[1]) or at >= tonumber(q[2]) then return end
  if at >= tonumber(q[3]) then
    call('HINCRBY', s, 'qt', int(tokens))
    call('HINCRBY', s, 'qc', int(cost))
  else
    call('HDEL', s, 'qs')
  end
end

local was_held = let_go(id) ~= nil
for i = 9, #ARGV, 2 do
  local name = ARGV[i]
  local s = ensure(name, wall)
  local is_new = count_in_window(name, s, ARGV[i + 1])
  if was_held or not is_retry then count_in_period(name, s)
  elseif is_new then suspect(name, tokens, cost, wall) end
end
return 1
"""

REFUND = """
let_go(ARGV[2])
for i = 3, #ARGV do call('ZREM', P .. 'r:' .. ARGV[i], ARGV[2]) end
return 1
"""

RENEW = """
local lease, wall, at = tonumber(ARGV[2]), tonumber(ARGV[3]), 4
while at <= #ARGV do
  local id, count = ARGV[at], tonumber(ARGV[at + 4])
  if call('HEXISTS', P .. 'h', id) == 1 then
    call('ZADD', P .. 'x', int(now + lease), id)
  else
    local names = {}
    for i = 1, count do names[i] = ARGV[at + 4 + i] end
    hold(id, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), names, lease, wall)
  end
  at = at + 5 + count
end
return 1
"""


def script(step: str, redis_time: str = REDIS_TIME) -> str:
    """Put a step behind what all steps share."""
    return COMMON.replace("@CLOCK@", redis_time) + step
