-- Shared by the scripts. Their options are variables of the environment (see wrk.py).
local common = {}

local threads = {}
local expected = tonumber(os.getenv("BENCHMARK_STATUS") or "200")
local skip = tonumber(os.getenv("BENCHMARK_SKIP") or "0") -- seconds until all have connected
local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } instant; int clock_gettime(int, instant *);")
local instant = ffi.new("instant")

function common.option(name)
  local value = os.getenv("BENCHMARK_" .. name)
  assert(value, "BENCHMARK_" .. name .. " is not set")
  return value
end

-- Number the threads, and remember them for the report.
function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

-- A visitor is a line of the file: the Cookie header, a tab, and the token of the visitor's form.
function common.read_visitors()
  local visitors = {}
  for line in io.lines(common.option("VISITORS")) do
    local cookies, token = line:match("^(.-)\t(.+)$")
    visitors[#visitors + 1] = { cookies = cookies, token = token }
  end
  return visitors
end

-- Return a function that gives the next visitor, from a random one on.
function common.visitors_in_turn()
  local visitors = common.read_visitors()
  local last = math.random(#visitors)
  return function()
    last = last % #visitors + 1
    return visitors[last]
  end
end

function common.seed_random()
  math.randomseed(tonumber(common.option("SEED")) + number * 7919)
end

function common.random_uuid()
  local random = math.random
  return string.format(
    "%08x-%04x-4%03x-a%03x-%06x%06x",
    random(0, 0xffffffff), random(0, 0xffff), random(0, 0xfff), random(0, 0xfff),
    random(0, 0xffffff), random(0, 0xffffff)
  )
end

function common.get(path, cookies)
  local lines = { "GET " .. path .. " HTTP/1.1", "Host: " .. common.option("HOST") }
  if cookies then lines[#lines + 1] = "Cookie: " .. cookies end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

function common.post(path, cookies, form)
  local host = common.option("HOST")
  return table.concat({
    "POST " .. path .. " HTTP/1.1",
    "Host: " .. host,
    "Origin: http://" .. host,
    "Cookie: " .. cookies,
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Length: " .. #form,
    "",
    form,
  }, "\r\n")
end

function common.now()
  ffi.C.clock_gettime(1, instant) -- CLOCK_MONOTONIC
  return tonumber(instant.seconds) + tonumber(instant.nanoseconds) / 1e9
end

-- Count the answer to a request; name the first that isn't the expected one. The rate counts from
-- when all have connected.
good, of_rate, bad, first_bad = 0, 0, 0, ""
local begun = common.now()

function common.count(is_good, problem)
  if is_good then
    good = good + 1
    if skip == 0 or common.now() - begun >= skip then of_rate = of_rate + 1 end
  else
    bad = bad + 1
    if first_bad == "" then first_bad = problem end
  end
end

-- The report for our parent: the last line of wrk's output, in JSON.
function common.report(summary, p50, p99)
  local total, rate, wrong, problem = 0, 0, 0, ""
  for _, thread in ipairs(threads) do
    total = total + thread:get("good")
    rate = rate + thread:get("of_rate")
    wrong = wrong + thread:get("bad")
    if problem == "" then problem = thread:get("first_bad") end
  end
  local errors = summary.errors
  for _, kind in ipairs({ "connect", "read", "write", "timeout" }) do
    wrong = wrong + errors[kind]
    if problem == "" and errors[kind] > 0 then problem = "Connections failed: " .. kind end
  end
  io.write(string.format(
    '{"good": %d, "per_second": %.3f, "bad": %d, "first_bad": "%s", "p50_ms": %.3f, '
      .. '"p99_ms": %.3f}\n',
    total, rate / (summary.duration / 1e6 - skip), wrong, (problem:gsub('[\\"%c]', "?")), p50, p99
  ))
end

function common.times_of_all_threads()
  local times = {}
  for _, thread in ipairs(threads) do
    for _, each in ipairs(thread:get("times")) do times[#times + 1] = each end
  end
  table.sort(times)
  return times
end

-- A script whose answers mean more has its own of these two.
function response(status)
  common.count(status == expected, "The shop answered " .. status .. " instead of " .. expected)
end

function done(summary, latency)
  common.report(summary, latency:percentile(50) / 1000, latency:percentile(99) / 1000)
end

return common
