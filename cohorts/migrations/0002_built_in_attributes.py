"""Register the built-in attributes. Slots are stable: packed profiles and vectors rely on them."""

from django.db import migrations

FIRST_CUSTOM_SLOT = 100
HELD, CALLER, EITHER = "held", "caller", "either"
ORDINARY, FINANCIAL, RISK = "ordinary", "financial", "risk"

# slot, name, type, source, unit, label zh, label en, minimum, maximum, sensitivity
BUILT_IN = [
    (1, "region", "region", HELD, "GB/T 2260", "地区", "Region", None, None, ORDINARY),
    (2, "staff", "boolean", HELD, "", "内部员工", "Staff", None, None, ORDINARY),
    (3, "weekly_payments", "integer", HELD, "payments", "近 7 天支付笔数", "Payments in 7 days", 0, None, ORDINARY),
    (4, "monthly_payments", "integer", HELD, "payments", "近 30 天支付笔数", "Payments in 30 days", 0, None, ORDINARY),
    (5, "friends", "integer", HELD, "friends", "好友数", "Friends", 0, None, ORDINARY),
    (6, "assets_cny", "number", HELD, "CNY", "零钱通与理财通资产", "Assets", 0, None, FINANCIAL),
    (7, "yearly_spend_cny", "number", HELD, "CNY", "年消费额", "Yearly spend", 0, None, FINANCIAL),
    (8, "risk_score", "number", HELD, "points", "风险分（按天衰减）", "Risk score, decayed to today", 0, 100, RISK),
    (9, "registered_at", "date", HELD, "", "注册日期", "Registered on", None, None, ORDINARY),
    (10, "age", "integer", HELD, "years", "年龄", "Age", 0, 150, ORDINARY),
    (11, "student", "boolean", HELD, "", "学生", "Student", None, None, ORDINARY),
    (12, "consent", "boolean", HELD, "", "已授权同意", "Consent given", None, None, ORDINARY),
    (13, "invited", "boolean", HELD, "", "已受邀", "Invited", None, None, ORDINARY),
    (14, "holds_fenfu", "boolean", HELD, "", "已开通分付", "Holds Fenfu", None, None, FINANCIAL),
    (15, "emulator", "boolean", HELD, "", "模拟器或多开设备", "Emulator or cloned app", None, None, RISK),
    (16, "wifi_risk", "number", HELD, "points", "网络环境风险分", "Network risk", 0, 100, RISK),
    (17, "scripted", "boolean", HELD, "", "脚本化操作", "Scripted behaviour", None, None, RISK),
    (18, "outstanding_balance_cny", "number", HELD, "CNY", "贷款余额", "Outstanding balance", 0, None, FINANCIAL),
    (19, "optout", "boolean", HELD, "", "已拒绝自动化决策", "Opted out of automated decisions", None, None, ORDINARY),
    (20, "applied_fenfu_at", "date", HELD, "", "分付申请日期", "Applied for Fenfu on", None, None, FINANCIAL),
    (21, "app_version", "sem_ver", CALLER, "", "应用版本", "App version", None, None, ORDINARY),
    (22, "platform", "string", CALLER, "", "操作系统", "Platform", None, None, ORDINARY),
]


def register(apps, schema_editor):
    attribute = apps.get_model("cohorts", "Attribute")
    for slot, name, kind, source, unit, zh, en, minimum, maximum, sensitivity in BUILT_IN:
        attribute.objects.update_or_create(
            id=slot,
            defaults={
                "name": name,
                "type": kind,
                "source": source,
                "unit": unit,
                "label_zh": zh,
                "label_en": en,
                "minimum": minimum,
                "maximum": maximum,
                "sensitivity": sensitivity,
                "built_in": True,
            },
        )
    # Custom attributes are numbered by the sequence, from here on.
    schema_editor.execute(
        "SELECT setval(pg_get_serial_sequence('cohorts_attribute', 'id'), "
        "greatest(%s, (SELECT max(id) FROM cohorts_attribute)), true)",
        [FIRST_CUSTOM_SLOT - 1],
    )
    # Marks of the packed profile's outbox.
    schema_editor.execute("CREATE SEQUENCE IF NOT EXISTS cohorts_dirty_mark CACHE 1")


def unregister(apps, schema_editor):
    schema_editor.execute("DROP SEQUENCE IF EXISTS cohorts_dirty_mark")
    apps.get_model("cohorts", "Attribute").objects.filter(built_in=True).delete()


class Migration(migrations.Migration):
    dependencies = [("cohorts", "0001_initial")]

    operations = [migrations.RunPython(register, unregister)]
