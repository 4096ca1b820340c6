-- Buy, page after page, from the product's page to the paid order; then the next visitor comes.
--
-- Each thread has one connection, so that each answer belongs to the request before it. Pages are
-- asked for as a browser without scripts does: forms are read from them, and redirects followed.
local common = dofile(os.getenv("BENCHMARK_COMMON"))
local next_visitor, visitor, number_of_buyer, begun, step, line
local messages -- the cookie that shows a page's news once
times = {}

local function escape(text)
  return (text:gsub("[^%w_.~-]", function(c) return string.format("%%%02X", c:byte()) end))
end

local function cookies()
  if not messages then return visitor.cookies end
  return visitor.cookies .. "; " .. messages
end

local function get(path)
  line = common.get(path, cookies())
end

-- Fill in the form whose beginning has these words, and send it.
local function send(page, words, path, typed)
  local fields = {}
  for form in page:gmatch("<form.-</form>") do
    if form:match("^[^>]*>"):find(words, 1, true) then
      for input in form:gmatch("<input[^>]*>") do
        local name, value = input:match('name="([^"]*)"'), input:match('value="([^"]*)"')
        if input:find('type="hidden"', 1, true) and name then
          fields[#fields + 1] = escape(name) .. "=" .. escape(value or "")
        end
      end
      for name, value in pairs(typed) do
        fields[#fields + 1] = name .. "=" .. escape(value)
      end
      line = common.post(path, cookies(), table.concat(fields, "&"))
      return true
    end
  end
  return false
end

local function path_of(address)
  return (address:gsub("^https?://[^/]*", ""))
end

local function details()
  local name = "Buyer " .. number_of_buyer
  return {
    name = name, email = "buyer-" .. number_of_buyer .. "@example.org",
    address = "1 Market Street", street = "1 Market Street", postcode = "10115",
    town = "Springfield", country = "DE",
  }
end

local bank
-- Each step gets the answer to the one before it, and returns whether it could go on.
local steps = {
  function(page) return send(page, "/basket/holds/", "/basket/holds/", { quantity = "1" }) end,
  function(_, address) if address then get(path_of(address)) end return address end,
  function() get("/checkout/") return true end,
  function(page) return send(page, "/checkout/", "/checkout/", details()) end,
  function(_, address)
    if address then bank = path_of(address) get(bank) end
    return address
  end,
  function(page) return send(page, 'method="post"', bank, { choice = "approve" }) end,
  function(_, address) if address then get(path_of(address)) end return address end,
}

local function begin()
  visitor, messages, step, begun = next_visitor(), nil, 0, common.now()
  number_of_buyer = common.random_uuid()
  get(common.option("PATH"))
end

function init()
  common.seed_random()
  next_visitor = common.visitors_in_turn()
  begin()
end

function request()
  return line
end

function response(status, headers, body)
  local address = status == 302 and (headers["Location"] or headers["location"])
  local set = headers["Set-Cookie"] or headers["set-cookie"] or ""
  messages = address and (set:match("^messages=[^;]+") or messages) -- a page shows and deletes them
  local is_last = step == #steps
  if is_last and status == 200 and body:find("Paid. Thank you!", 1, true) then
    common.count(true)
    times[#times + 1] = common.now() - begun
    return begin()
  end
  if not is_last and (status == 200 or address) then
    step = step + 1
    if steps[step](body, address) then return end
  end
  common.count(false, "step " .. step .. " of a purchase was answered with " .. status)
  begin()
end

function done(summary)
  local found = common.times_of_all_threads()
  local function percentile(part)
    return 1000 * (found[math.max(1, math.ceil(part * #found))] or 0)
  end
  common.report(summary, percentile(0.5), percentile(0.99))
end
